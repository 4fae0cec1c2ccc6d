'''Sharing between two users, each with a daemon of their own.'''
import time
import unittest

import hgx
from hgx.exceptions import DeadObject, DoesNotExist, IPCError, LocallyImmutable
from hgx.utils import ApiID

from common import ALICE, BOB, BOB_FINGERPRINT, PATIENCE, HgxTest, fresh_api, main


@unittest.skipUnless(BOB_FINGERPRINT, 'needs a second daemon')
class SharingTest(HgxTest):
    def setUp(self):
        super().setUp()
        self.alice, self.bob = self.link(ALICE), self.link(BOB)
        self.api = fresh_api()

    def share(self, obj, sender=None, recipient=None, cls=hgx.Obj):
        '''Shares an object and returns the recipient's copy.'''
        sender, recipient = sender or self.alice, recipient or self.bob
        api = obj.hgx_api_id if isinstance(obj, hgx.Proxy) else obj.api_id
        calls = self.shares(recipient, api)
        if isinstance(obj, hgx.Proxy):
            obj.hgx_share_threadsafe(recipient.whoami)
        else:
            obj.share_threadsafe(recipient.whoami)
        ghid, origin, api_id = self.expect(calls)
        self.assertEqual(bytes(ghid), bytes(obj._hgx_ghid))
        self.assertEqual((origin, api_id), (sender.whoami, api))
        self.assertIsInstance(api_id, ApiID)
        return self.get(recipient, ghid, cls)

    def test_the_users_differ(self):
        self.assertNotEqual(bytes(self.alice.whoami), bytes(self.bob.whoami))
        self.assertEqual(self.bob.whoami.as_str(), BOB_FINGERPRINT)

    def test_share_and_updates(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        self.assertTrue(copy == obj)
        self.assertEqual(copy.binder, self.alice.whoami)
        self.assertTrue(copy.dynamic)
        self.assertFalse(copy.private)
        states = self.updates(self.bob, copy)
        for i in range(100):
            obj.state = b'%d' % i
            obj.push_threadsafe()
        seen = []
        while not seen or seen[-1] != 99:
            seen.append(int(self.expect(states)))
        self.assertEqual(seen, sorted(set(seen)))
        self.quiet(states)

    def test_both_ways(self):
        mine = self.share(self.new(self.alice, hgx.JsonObj, 'from alice', api_id=self.api),
                          cls=hgx.JsonObj)
        theirs = self.share(self.new(self.bob, hgx.JsonObj, 'from bob', api_id=fresh_api()),
                            self.bob, self.alice, hgx.JsonObj)
        self.assertEqual((mine.state, theirs.state), ('from alice', 'from bob'))

    def test_every_class(self):
        for cls, state in ((hgx.Obj, b'raw'), (hgx.Proxy, b'raw'), (hgx.JsonObj, [1]),
                           (hgx.JsonProxy, {'a': 1}), (hgx.PickleObj, (1, 2)),
                           (hgx.PickleProxy, {3})):
            obj = self.new(self.alice, cls, state, api_id=fresh_api())
            copy = self.share(obj, cls=cls)
            self.assertEqual(copy._hgx_state, state)

    def test_static(self):
        obj = self.new(self.alice, api_id=self.api, dynamic=False)
        copy = self.share(obj)
        self.assertEqual(copy.state, b'Hello world!')
        self.assertFalse(copy.dynamic)

    def test_recipients_copy_is_read_only(self):
        copy = self.share(self.new(self.alice, api_id=self.api))
        copy.state = b'mine now'
        with self.assertRaises(LocallyImmutable):
            copy.push_threadsafe()
        with self.assertRaises(IPCError):
            copy.delete_threadsafe()

    def test_not_shared_is_not_readable(self):
        obj = self.new(self.alice, api_id=self.api)
        with self.assertRaises(DoesNotExist):
            self.bob.get_threadsafe(hgx.Obj, obj.ghid)

    def test_a_share_says_what_the_object_is_now(self):
        obj = self.new(self.alice, api_id=self.api)
        for i in range(20):
            obj.state = b'%d' % i
            obj.push_threadsafe()
        self.assertEqual(self.share(obj).state, b'19')

    def test_shared_again_the_handler_runs_again(self):
        obj = self.new(self.alice, api_id=self.api)
        calls = self.shares(self.bob, self.api)
        for _ in range(2):
            obj.share_threadsafe(self.bob.whoami)
            self.assertEqual(self.expect(calls), (obj.ghid, self.alice.whoami, self.api))
        self.quiet(calls)

    def test_in_the_order_they_were_sent(self):
        objs = [self.new(self.alice, state=b'%d' % i, api_id=self.api) for i in range(20)]
        calls = self.shares(self.bob, self.api)
        for obj in objs:
            obj.share_threadsafe(self.bob.whoami)
        self.assertEqual([self.expect(calls)[0] for _ in objs], [obj.ghid for obj in objs])

    def test_kept_until_an_application_registers(self):
        obj = self.new(self.alice, api_id=self.api)
        obj.share_threadsafe(self.bob.whoami)
        time.sleep(1)
        late = self.link(BOB)
        calls = self.shares(late, self.api)
        self.assertEqual(self.expect(calls)[0], obj.ghid)
        # Handed over once: the next application hears of new shares only.
        later = self.link(BOB)
        self.quiet(self.shares(later, self.api))

    def test_every_application_with_a_handler(self):
        others = [self.link(BOB) for _ in range(3)]
        calls = [self.shares(link, self.api) for link in others]
        obj = self.new(self.alice, api_id=self.api)
        obj.share_threadsafe(self.bob.whoami)
        for each in calls:
            self.assertEqual(self.expect(each)[0], obj.ghid)

    def test_updates_reach_every_application(self):
        obj = self.new(self.alice, api_id=self.api)
        copies = [self.share(obj)] + [self.get(self.link(BOB), obj.ghid) for _ in range(3)]
        obj.state = b'for all'
        obj.push_threadsafe()
        for copy in copies:
            self.eventually(lambda: copy.state == b'for all', 'the update')

    def test_updates_come_from_any_application(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        self.alice.stop_threadsafe()
        again = self.get(self.link(ALICE), obj.ghid)
        again.state = b'from another application'
        again.push_threadsafe()
        self.eventually(lambda: copy.state == b'from another application', 'the update')

    def test_delete_reaches_the_recipient(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        states = self.updates(self.bob, copy)
        obj.delete_threadsafe()
        self.assertIs(self.expect(states), DeadObject)
        self.assertFalse(copy.isalive)
        with self.assertRaises(DoesNotExist):
            self.link(BOB).get_threadsafe(hgx.Obj, obj.ghid)

    def test_delete_spares_what_the_recipient_holds(self):
        for dynamic in (True, False):
            obj = self.new(self.alice, api_id=fresh_api(), dynamic=dynamic)
            gone = self.new(self.alice, api_id=fresh_api())
            copy, unheld = self.share(obj), self.share(gone)
            states = self.updates(self.bob, copy)
            copy.hold_threadsafe()
            obj.delete_threadsafe()
            gone.delete_threadsafe()
            self.eventually(lambda: not unheld.isalive, 'the second deletion')
            self.quiet(states)
            self.assertTrue(copy.isalive)
            self.assertEqual(self.get(self.link(BOB), obj.ghid).state, b'Hello world!')

    def test_freeze_by_the_recipient(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        frozen = self.keep(copy.freeze_threadsafe())
        self.assertFalse(frozen.dynamic)
        self.assertEqual(frozen.binder, self.alice.whoami)
        obj.state = b'later'
        obj.push_threadsafe()
        self.eventually(lambda: copy.state == b'later', 'the update')
        self.assertEqual(frozen.state, b'Hello world!')
        obj.delete_threadsafe()
        self.eventually(lambda: not copy.isalive, 'the deletion')
        self.assertEqual(self.get(self.link(BOB), frozen.ghid).state, b'Hello world!')

    def test_discard_by_the_recipient(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        other = self.get(self.link(BOB), obj.ghid)
        states = self.updates(self.bob, copy)
        copy.discard_threadsafe()
        obj.state = b'unheard here'
        obj.push_threadsafe()
        self.eventually(lambda: other.state == b'unheard here', 'the update elsewhere')
        self.quiet(states)

    def test_sync_by_the_recipient(self):
        obj = self.new(self.alice, api_id=self.api)
        copy = self.share(obj)
        obj.state = b'synced'
        obj.push_threadsafe()
        copy.sync_threadsafe()
        self.eventually(lambda: copy.state == b'synced', 'the update')

    def test_to_nobody_known(self):
        obj = self.new(self.alice, api_id=self.api)
        started = time.monotonic()
        try:
            obj.share_threadsafe(hgx.Ghid.pseudorandom(1))
        except IPCError:
            pass
        self.assertLess(time.monotonic() - started, PATIENCE)
        self.assertEqual(self.share(obj).state, b'Hello world!')

    def test_to_oneself(self):
        obj = self.new(self.alice, api_id=self.api)
        try:
            obj.share_threadsafe(self.alice.whoami)
        except IPCError:
            pass
        self.assertEqual(self.new(self.alice).state, b'Hello world!')


class AnnouncementTest(HgxTest):
    '''Other applications of the same user hear of new public objects.'''

    def test_announced_with_the_users_own_fingerprint(self):
        api = fresh_api()
        maker, listener = self.link(), self.link()
        calls, own = self.shares(listener, api), self.shares(maker, api)
        obj = self.new(maker, api_id=api)
        self.assertEqual(self.expect(calls), (obj.ghid, maker.whoami, api))
        self.quiet(own)

    def test_other_api_ids_are_not_heard_of(self):
        maker, listener = self.link(), self.link()
        calls = self.shares(listener, fresh_api())
        self.new(maker, api_id=fresh_api())
        self.quiet(calls)

    def test_the_last_handler_counts(self):
        api = fresh_api()
        maker, listener = self.link(), self.link()
        first = self.shares(listener, api)
        second = self.shares(listener, api)
        obj = self.new(maker, api_id=api)
        self.assertEqual(self.expect(second)[0], obj.ghid)
        self.quiet(first)


if __name__ == '__main__':
    main()
