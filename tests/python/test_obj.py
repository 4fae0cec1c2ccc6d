'''`hgx.Obj`: every documented property and method, in the threadsafe style, one daemon.'''
import hgx
from hgx.exceptions import DeadObject, DoesNotExist, IPCError, LocallyImmutable
from hgx.utils import ApiID

from common import HgxTest, fresh_api, main


class PropertyTest(HgxTest):
    def test_state_is_local_until_pushed(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)
        obj.state = b'Hello Hypergolix!'
        self.assertEqual(obj.state, b'Hello Hypergolix!')
        third = self.get(self.link(), obj.ghid)
        self.assertEqual(third.state, b'Hello world!')
        self.assertEqual(again.state, b'Hello world!')

    def test_ghid_api_id_binder(self):
        link = self.link()
        api = fresh_api()
        obj = self.new(link, api_id=api)
        self.assertEqual(obj.ghid.algo, 1)
        self.assertEqual(obj.api_id, api)
        self.assertIsInstance(obj.api_id, ApiID)
        self.assertEqual(obj.binder, link.whoami)
        self.assertTrue(obj.isalive)
        for name, value in (('ghid', obj.ghid), ('api_id', api), ('binder', link.whoami),
                            ('dynamic', True)):
            with self.assertRaises(RuntimeError):
                setattr(obj, name, value)

    def test_public_objects_cannot_become_private(self):
        obj = self.new(self.link())
        self.assertFalse(obj.private)
        with self.assertRaises(RuntimeError):
            obj.private = True

    def test_equality(self):
        writer, reader = self.link(), self.link()
        obj, other = self.new(writer), self.new(writer)
        again = self.get(reader, obj.ghid)
        self.assertTrue(obj == again)
        self.assertFalse(obj == other)
        again.state = b'changed here only'
        self.assertFalse(obj == again)
        with self.assertRaises(TypeError):
            obj == b'Hello world!'


class CallbackTest(HgxTest):
    def test_called_with_the_updated_object(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)
        states = self.updates(reader, again)
        for i in range(50):
            obj.state = b'%d' % i
            obj.push_threadsafe()
        # Intermediate states may be skipped; none may come twice or late.
        seen = []
        while not seen or seen[-1] != 49:
            seen.append(int(self.expect(states)))
        self.assertEqual(seen, sorted(set(seen)))
        self.assertEqual(again.state, b'49')
        self.quiet(states)

    def test_not_called_for_the_applications_own_push(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        own = self.updates(writer, obj)
        others = self.updates(reader, self.get(reader, obj.ghid))
        obj.state = b'pushed'
        obj.push_threadsafe()
        self.assertEqual(self.expect(others), b'pushed')
        self.quiet(own)

    def test_both_applications_may_push(self):
        one, two = self.link(), self.link()
        left = self.new(one)
        right = self.get(two, left.ghid)
        at_left, at_right = self.updates(one, left), self.updates(two, right)
        left.state = b'from the left'
        left.push_threadsafe()
        self.assertEqual(self.expect(at_right), b'from the left')
        right.state = b'from the right'
        right.push_threadsafe()
        self.assertEqual(self.expect(at_left), b'from the right')
        self.assertTrue(left == right)

    def test_getting_and_deleting(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)
        self.assertIsNone(again.callback)
        states = self.updates(reader, again)
        # Reading it back gives a wrapper, and None does not clear it.
        self.assertIsNotNone(again.callback)
        again.callback = None
        self.assertIsNotNone(again.callback)
        del again.callback
        self.assertIsNone(again.callback)
        obj.state = b'unheard'
        obj.push_threadsafe()
        self.eventually(lambda: again.state == b'unheard', 'the state')
        self.quiet(states)

    def test_a_callback_that_raises_harms_nothing(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)

        async def bad(obj):
            raise ValueError('swallowed and logged')

        again.callback = bad
        obj.state = b'one'
        obj.push_threadsafe()
        self.eventually(lambda: again.state == b'one', 'the state')
        states = self.updates(reader, again)
        obj.state = b'two'
        obj.push_threadsafe()
        self.assertEqual(self.expect(states), b'two')


class MethodTest(HgxTest):
    def test_recast(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer, state=b'"Hello world!"')
        again = self.get(reader, obj.ghid)
        recast = self.keep(again.recast_threadsafe(hgx.JsonObj))
        self.assertEqual(repr(recast),
                         "<JsonObj with state 'Hello world!' at {}>".format(obj.ghid))
        self.assertFalse(again.isalive)
        obj.state = b'"and on"'
        obj.push_threadsafe()
        self.eventually(lambda: recast.state == 'and on', 'an update of the recast object')

    def test_recast_needs_a_state_of_that_form(self):
        # The example in the documentation: these bytes are not JSON.
        obj = self.new(self.link(), state=b'Hello world!')
        with self.assertRaises(ValueError):
            obj.recast_threadsafe(hgx.JsonObj)

    def test_push(self):
        writer = self.link()
        obj = self.new(writer)
        obj.state = b'Foo'
        obj.state = b'Bar'
        obj.push_threadsafe()
        self.assertEqual(self.get(self.link(), obj.ghid).state, b'Bar')

    def test_push_of_a_static_object(self):
        obj = self.new(self.link(), dynamic=False)
        obj.state = b'changed'
        with self.assertRaises(LocallyImmutable):
            obj.push_threadsafe()
        self.assertEqual(self.get(self.link(), obj.ghid).state, b'Hello world!')

    def test_sync(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)
        obj.sync_threadsafe()
        again.sync_threadsafe()
        self.assertEqual(again.state, b'Hello world!')
        self.new(writer, dynamic=False).sync_threadsafe()

    def test_freeze(self):
        writer = self.link()
        obj = self.new(writer, state=b'hello world', api_id=fresh_api())
        frozen = self.keep(obj.freeze_threadsafe())
        self.assertFalse(frozen.dynamic)
        self.assertTrue(obj.dynamic)
        self.assertIsInstance(frozen, hgx.Obj)
        self.assertNotEqual(bytes(frozen.ghid), bytes(obj.ghid))
        self.assertEqual(frozen.api_id, obj.api_id)
        self.assertEqual(frozen.binder, writer.whoami)
        # Unchanged, it freezes to the same snapshot; changed, to another.
        self.assertEqual(self.keep(obj.freeze_threadsafe()).ghid, frozen.ghid)
        obj.state = b'later'
        obj.push_threadsafe()
        later = self.keep(obj.freeze_threadsafe())
        self.assertEqual(later.state, b'later')
        self.assertNotEqual(bytes(later.ghid), bytes(frozen.ghid))
        self.assertEqual(self.get(self.link(), frozen.ghid).state, b'hello world')

    def test_freeze_of_a_static_object(self):
        with self.assertRaises(LocallyImmutable):
            self.new(self.link(), dynamic=False).freeze_threadsafe()

    def test_a_snapshot_outlives_its_source(self):
        writer = self.link()
        obj = self.new(writer)
        frozen = self.keep(obj.freeze_threadsafe())
        obj.delete_threadsafe()
        self.assertEqual(self.get(self.link(), frozen.ghid).state, b'Hello world!')

    def test_hold(self):
        for dynamic in (True, False):
            obj = self.new(self.link(), dynamic=dynamic)
            obj.hold_threadsafe()
            obj.hold_threadsafe()
            self.assertEqual(self.get(self.link(), obj.ghid).state, b'Hello world!')

    def test_own_hold_does_not_stop_own_delete(self):
        writer = self.link()
        obj = self.new(writer)
        obj.hold_threadsafe()
        obj.delete_threadsafe()
        with self.assertRaises(DoesNotExist):
            self.link().get_threadsafe(hgx.Obj, obj.ghid)

    def test_discard(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = reader.get_threadsafe(hgx.Obj, obj.ghid)
        states = self.updates(reader, again)
        again.discard_threadsafe()
        self.assertFalse(again.isalive)
        for call in (lambda: again.state, again.push_threadsafe, again.sync_threadsafe,
                     again.freeze_threadsafe, again.hold_threadsafe, again.discard_threadsafe,
                     again.delete_threadsafe, lambda: repr(again),
                     lambda: again.share_threadsafe(hgx.Ghid.pseudorandom(1))):
            with self.assertRaises(DeadObject):
                call()
        obj.state = b'unheard'
        obj.push_threadsafe()
        self.quiet(states)
        # A new copy may be fetched once the dead one is gone.
        del again, call
        fresh = self.eventually(lambda: self.alive(reader, obj.ghid), 'a living copy')
        self.assertEqual(fresh.state, b'unheard')
        obj.state = b'heard'
        obj.push_threadsafe()
        self.eventually(lambda: fresh.state == b'heard', 'an update')

    def alive(self, link, ghid):
        obj = link.get_threadsafe(hgx.Obj, ghid)
        if obj.isalive:
            return self.keep(obj)

    def test_delete(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        again = self.get(reader, obj.ghid)
        states = self.updates(reader, again)
        own = self.updates(writer, obj)
        obj.delete_threadsafe()
        self.assertFalse(obj.isalive)
        self.assertIs(self.expect(states), DeadObject)
        self.assertFalse(again.isalive)
        self.quiet(own)
        with self.assertRaises(DeadObject):
            obj.push_threadsafe()
        with self.assertRaises(DoesNotExist):
            self.link().get_threadsafe(hgx.Obj, obj.ghid)

    def test_delete_of_a_static_object(self):
        obj = self.new(self.link(), dynamic=False)
        obj.delete_threadsafe()
        with self.assertRaises(DoesNotExist):
            self.link().get_threadsafe(hgx.Obj, obj.ghid)

    def test_delete_from_another_application(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer)
        states = self.updates(writer, obj)
        self.get(reader, obj.ghid).delete_threadsafe()
        self.assertIs(self.expect(states), DeadObject)
        self.assertFalse(obj.isalive)

    def test_share_with_an_address_that_is_no_identity(self):
        link = self.link()
        obj = self.new(link)
        try:
            obj.share_threadsafe(obj.ghid)
        except (IPCError, DoesNotExist):
            pass
        self.assertEqual(self.new(link).state, b'Hello world!')


if __name__ == '__main__':
    main()
