'''The plain style (awaited inside the link's own loop) and the loopsafe style.

The threadsafe style is what the other files use. Every `*_loopsafe` method of the package raises
`TypeError`: `loopa` 0.0.2 calls its own helper with a name it does not have. The daemon never hears
of these calls; they are tested so that a package that works is noticed.
'''
import queue
import warnings

import hgx
from hgx.exceptions import DeadObject, DoesNotExist, LocallyImmutable

from common import ForeignLoop, HgxTest, fresh_api, in_loop, main

LINK_METHODS = ('new', 'get', 'register_token', 'register_startup', 'deregister_startup',
                'register_share_handler', 'deregister_share_handler')
OBJECT_METHODS = ('recast', 'push', 'sync', 'share', 'freeze', 'hold', 'discard', 'delete')


class PlainTest(HgxTest):
    def test_link_methods(self):
        link, other = self.link(), self.link()

        async def program():
            self.assertIsNone(await link.register_token())
            obj = self.keep(await link.new(cls=hgx.JsonObj, state='plain'))
            await link.register_startup(obj)
            await link.deregister_startup()
            await link.register_startup(obj)
            self.assertIs(await link.get(hgx.JsonObj, obj.ghid), obj)
            return obj

        obj = in_loop(link, program())
        self.assertEqual(self.get(other, obj.ghid, hgx.JsonObj).state, 'plain')
        token = link.token
        link.stop_threadsafe()
        self.assertEqual(in_loop(other, other.register_token(token)), obj.ghid)

    def test_object_methods(self):
        for cls, prefix in ((hgx.JsonObj, ''), (hgx.JsonProxy, 'hgx_')):
            link, other = self.link(), self.link()

            async def program():
                def method(obj, name):
                    return getattr(obj, prefix + name)

                obj = self.keep(await link.new(cls=cls, state='plain'))
                setattr(obj, prefix + 'state', 'pushed')
                await method(obj, 'push')()
                await method(obj, 'sync')()
                await method(obj, 'hold')()
                frozen = self.keep(await method(obj, 'freeze')())
                with self.assertRaises(LocallyImmutable):
                    await method(frozen, 'push')()
                self.assertEqual(getattr(frozen, prefix + 'state'), 'pushed')
                raw = self.keep(await method(frozen, 'recast')(hgx.Obj))
                self.assertEqual(raw.state, b'"pushed"')
                await raw.discard()
                with self.assertRaises(DeadObject):
                    await raw.sync()
                await method(obj, 'delete')()
                return method(obj, 'ghid')

            ghid = in_loop(link, program())
            with self.assertRaises(DoesNotExist):
                other.get_threadsafe(cls, ghid)

    def test_calls_from_within_a_callback(self):
        # A callback runs in the loop while the daemon's notification is still open.
        writer, reader = self.link(), self.link()
        obj = self.new(writer, hgx.JsonObj, 0)
        again = self.get(reader, obj.ghid, hgx.JsonObj)
        made = queue.Queue()

        async def callback(obj):
            copy = self.keep(await reader.new(cls=hgx.JsonObj, state=obj.state))
            copy.state += 1
            await copy.push()
            made.put(copy)

        again.callback = callback
        obj.state = 41
        obj.push_threadsafe()
        self.assertEqual(self.expect(made).state, 42)

    def test_calls_from_within_a_share_handler(self):
        # As the monitor of the telemeter tutorial does it.
        api = fresh_api()
        writer, reader = self.link(), self.link()
        got = queue.Queue()

        async def handler(ghid, origin, api_id):
            got.put(self.keep(await reader.get(cls=hgx.JsonObj, ghid=ghid)))

        in_loop(reader, reader.register_share_handler(api, handler))
        obj = self.new(writer, hgx.JsonObj, 'announced', api_id=api)
        self.assertTrue(self.expect(got) == obj)
        in_loop(reader, reader.deregister_share_handler(api))
        self.new(writer, hgx.JsonObj, 'unheard', api_id=api)
        self.quiet(got)


class LoopsafeTest(HgxTest):
    def setUp(self):
        super().setUp()
        # The coroutine behind the failed call is never awaited.
        warnings.simplefilter('ignore', RuntimeWarning)

    def assert_type_error(self, foreign, method, *args):
        async def program():
            await method(*args)

        with self.assertRaises(TypeError):
            foreign.run(program())

    def test_link_methods(self):
        with ForeignLoop() as foreign:
            link = self.link()
            for name in LINK_METHODS:
                self.assert_type_error(foreign, getattr(link, name + '_loopsafe'))
            self.assertEqual(self.new(link).state, b'Hello world!')

    def test_object_methods(self):
        with ForeignLoop() as foreign:
            link = self.link()
            obj, proxy = self.new(link), self.new(link, hgx.Proxy)
            for name in OBJECT_METHODS:
                self.assert_type_error(foreign, getattr(obj, name + '_loopsafe'))
                self.assert_type_error(foreign, getattr(proxy, 'hgx_' + name + '_loopsafe'))
            self.assertTrue(obj.isalive and proxy.hgx_isalive)


if __name__ == '__main__':
    main()
