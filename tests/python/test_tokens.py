'''Application tokens, startup objects and private objects.'''
import os
import subprocess
import sys

import hgx
from hgx.exceptions import DoesNotExist, IPCError, Unsharable
from hgx.utils import AppToken

from common import ALICE, BOB_FINGERPRINT, HgxTest, fresh_api, main


class TokenTest(HgxTest):
    def registered(self, token=None):
        link = self.link()
        link.register_token_threadsafe(token)
        return link

    def test_a_new_token(self):
        link = self.link()
        self.assertIsNone(link.register_token_threadsafe())
        self.assertIsInstance(link.token, AppToken)
        self.assertEqual(len(link.token), 16)
        self.assertNotEqual(link.token, AppToken.null())
        self.assertNotEqual(link.token, self.registered().token)

    def test_only_once(self):
        link = self.registered()
        token = link.token
        for second in (None, token, AppToken.pseudorandom()):
            with self.assertRaises(IPCError):
                link.register_token_threadsafe(second)
        self.assertEqual(link.token, token)

    def test_again_after_a_restart(self):
        first = self.registered()
        token = first.token
        first.stop_threadsafe()
        second = self.link()
        self.assertIsNone(second.register_token_threadsafe(token))
        self.assertEqual(second.token, token)

    def test_in_use(self):
        token = self.registered().token
        link = self.link()
        with self.assertRaises(IPCError):
            link.register_token_threadsafe(token)
        with self.assertRaises(RuntimeError):
            link.token
        # A refusal changes nothing: a token of its own is still to be had.
        link.register_token_threadsafe()

    def test_unknown(self):
        with self.assertRaises(IPCError):
            self.link().register_token_threadsafe(AppToken.pseudorandom())

    def test_free_at_once_when_its_application_is_killed(self):
        program = ('import hgx, os, sys\n'
                   'link = hgx.HGXLink(ipc_port={})\n'
                   'link.register_token_threadsafe()\n'
                   'sys.stdout.write(link.token.hex()); sys.stdout.flush()\n'
                   'os._exit(0)\n').format(ALICE)
        out = subprocess.check_output([sys.executable, '-c', program], env=dict(os.environ))
        token = AppToken(bytes.fromhex(out.decode()))

        def free():
            link = self.link()
            try:
                link.register_token_threadsafe(token)
            except IPCError:
                return False
            return True

        self.eventually(free, 'the token')


class StartupTest(TokenTest):
    def test_returned_at_every_later_registration(self):
        link = self.registered()
        obj = self.new(link, state=b'hello world')
        link.register_startup_threadsafe(obj)
        for _ in range(2):
            link.stop_threadsafe()
            token = link.token
            link = self.link()
            ghid = link.register_token_threadsafe(token)
            self.assertEqual(ghid, obj.ghid)
            self.assertEqual(self.get(link, ghid).state, b'hello world')

    def test_any_class(self):
        link = self.registered()
        proxy = self.new(link, hgx.JsonProxy, {'setting': 1})
        link.register_startup_threadsafe(proxy)
        link.deregister_startup_threadsafe()

    def test_deregistered(self):
        link = self.registered()
        link.register_startup_threadsafe(self.new(link))
        link.deregister_startup_threadsafe()
        token = link.token
        link.stop_threadsafe()
        self.assertIsNone(self.link().register_token_threadsafe(token))

    def test_refusals(self):
        link = self.link()
        obj = self.new(link)
        for call in (lambda: link.register_startup_threadsafe(obj),
                     link.deregister_startup_threadsafe):
            with self.assertRaises(IPCError):
                call()
        link.register_token_threadsafe()
        with self.assertRaises(IPCError):
            link.deregister_startup_threadsafe()
        link.register_startup_threadsafe(obj)
        with self.assertRaises(IPCError):
            link.register_startup_threadsafe(self.new(link))
        link.deregister_startup_threadsafe()
        link.register_startup_threadsafe(self.new(link))

    def test_per_token(self):
        one, two = self.registered(), self.registered()
        obj = self.new(one)
        one.register_startup_threadsafe(obj)
        token = two.token
        two.stop_threadsafe()
        self.assertIsNone(self.link().register_token_threadsafe(token))


class PrivateTest(TokenTest):
    def test_only_for_its_application(self):
        owner, other, anonymous = self.registered(), self.registered(), self.link()
        obj = self.new(owner, state=b'secret', private=True)
        self.assertTrue(obj.private)
        for link in (other, anonymous):
            with self.assertRaises(DoesNotExist):
                link.get_threadsafe(hgx.Obj, obj.ghid)
        token = owner.token
        owner.stop_threadsafe()
        again = self.get(self.registered(token), obj.ghid)
        self.assertEqual(again.state, b'secret')
        self.assertTrue(again.private)
        again.state = b'changed'
        again.push_threadsafe()
        self.assertTrue(again.private)

    def test_never_announced(self):
        api = fresh_api()
        owner, other = self.registered(), self.registered()
        calls = self.shares(other, api)
        self.new(owner, state=b'secret', api_id=api, private=True)
        public = self.new(owner, api_id=api)
        self.assertEqual(self.expect(calls)[0], public.ghid)
        self.quiet(calls)

    def test_unsharable(self):
        owner = self.registered()
        obj = self.new(owner, private=True)
        recipient = hgx.Ghid.from_str(BOB_FINGERPRINT)
        with self.assertRaises(Unsharable):
            obj.share_threadsafe(recipient)

    def test_made_public(self):
        owner, other = self.registered(), self.link()
        obj = self.new(owner, state=b'secret', private=True)
        obj.private = False
        obj.state = b'public'
        obj.push_threadsafe()
        again = self.get(other, obj.ghid)
        self.assertEqual(again.state, b'public')
        self.assertFalse(again.private)
        with self.assertRaises(RuntimeError):
            obj.private = True

    def test_static(self):
        owner = self.registered()
        obj = self.new(owner, private=True, dynamic=False)
        with self.assertRaises(DoesNotExist):
            self.link().get_threadsafe(hgx.Obj, obj.ghid)

    def test_as_startup_object(self):
        owner = self.registered()
        obj = self.new(owner, hgx.JsonObj, {'setting': 1}, private=True)
        owner.register_startup_threadsafe(obj)
        token = owner.token
        owner.stop_threadsafe()
        link = self.link()
        ghid = link.register_token_threadsafe(token)
        self.assertEqual(self.get(link, ghid, hgx.JsonObj).state, {'setting': 1})


if __name__ == '__main__':
    main()
