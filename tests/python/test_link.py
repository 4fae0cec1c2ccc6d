'''`hgx.HGXLink`: whoami, token, start and stop, new and get, the two wrappers.'''
import asyncio
import queue
import threading

import hgx
from hgx.exceptions import DoesNotExist, HGXLinkError, IPCError
from hgx.utils import ApiID

from common import ALICE, PATIENCE, ForeignLoop, HgxTest, fresh_api, in_loop, main


class StartTest(HgxTest):
    def test_whoami_is_the_same_for_every_application(self):
        first, second = self.link(), self.link()
        self.assertEqual(first.whoami, second.whoami)
        self.assertEqual(first.whoami.algo, 1)

    def test_whoami_is_read_only(self):
        link = self.link()
        with self.assertRaises(HGXLinkError):
            link.whoami = hgx.Ghid.pseudorandom(1)

    def test_token_needs_registration(self):
        link = self.link()
        with self.assertRaises(RuntimeError):
            link.token

    def test_explicit_start(self):
        link = hgx.HGXLink(ALICE, autostart=False)
        with self.assertRaises(RuntimeError):
            link.whoami
        link.start()
        self.addCleanup(link.stop_threadsafe)
        self.assertEqual(link.whoami.algo, 1)

    def test_in_the_programs_own_thread(self):
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self.addCleanup(lambda: asyncio.set_event_loop(asyncio.new_event_loop()))
        link = hgx.HGXLink(ipc_port=ALICE, autostart=False, threaded=False)

        async def program():
            try:
                for _ in range(PATIENCE * 100):
                    if link._whoami is not None:
                        break
                    await asyncio.sleep(0.01)
                obj = await link.new(cls=hgx.JsonObj, state='in one thread')
                obj.state = 'still in one thread'
                await obj.push()
                return threading.current_thread(), link.whoami, obj.ghid
            finally:
                link.stop()

        task = loop.create_task(program())
        link.start()
        thread, whoami, ghid = task.result()
        self.assertIs(thread, threading.current_thread())
        asyncio.set_event_loop(asyncio.new_event_loop())
        reader = self.link()
        self.assertEqual(whoami, reader.whoami)
        self.assertEqual(self.get(reader, ghid, hgx.JsonObj).state, 'still in one thread')

    def test_stop_threadsafe(self):
        link = hgx.HGXLink(ipc_port=ALICE)
        link.stop_threadsafe()
        self.assertFalse(link._loop.is_running())
        link.stop_threadsafe()

    def test_stop_within_the_loop(self):
        link = hgx.HGXLink(ipc_port=ALICE)
        link._loop.call_soon_threadsafe(link.stop)
        self.eventually(link._loop.is_closed, 'the end of the loop')

    def test_stop_loopsafe_is_documented_but_does_not_exist(self):
        self.assertFalse(hasattr(self.link(), 'stop_loopsafe'))

    def test_many_links_at_once(self):
        links = [self.link() for _ in range(10)]
        self.assertEqual(len({link.whoami for link in links}), 1)


class NewTest(HgxTest):
    def test_defaults(self):
        link = self.link()
        obj = self.new(link)
        self.assertEqual(repr(obj), "<Obj with state b'Hello world!' at {}>".format(obj.ghid))
        self.assertTrue(obj.dynamic)
        self.assertFalse(obj.private)
        self.assertEqual(obj.api_id, ApiID(bytes(63) + b'\1'))
        self.assertEqual(obj.binder, link.whoami)

    def test_options(self):
        api = fresh_api()
        writer, reader = self.link(), self.link()
        obj = self.new(writer, state=b'', api_id=api, dynamic=False)
        again = self.get(reader, obj.ghid)
        self.assertEqual(again.state, b'')
        self.assertEqual(again.api_id, api)
        self.assertFalse(again.dynamic)
        self.assertEqual(again.binder, writer.whoami)

    def test_equal_states_make_different_objects(self):
        link = self.link()
        for dynamic in (True, False):
            one = self.new(link, dynamic=dynamic)
            two = self.new(link, dynamic=dynamic)
            self.assertNotEqual(bytes(one.ghid), bytes(two.ghid))

    def test_wrong_types(self):
        link = self.link()
        with self.assertRaises(TypeError):
            link.new_threadsafe(cls=hgx.Obj, state=b'', api_id=bytes(64))
        with self.assertRaises(TypeError):
            link.new_threadsafe(cls=hgx.JsonObj, state=object())
        self.assertEqual(self.new(link).state, b'Hello world!')

    def test_private_needs_a_token(self):
        link = self.link()
        with self.assertRaises(IPCError):
            link.new_threadsafe(cls=hgx.Obj, state=b'secret', private=True)

    def test_the_largest_state_and_one_byte_more(self):
        link, reader = self.link(), self.link()
        largest = b'x' * 10485554
        obj = self.new(link, state=largest)
        self.assertTrue(self.get(reader, obj.ghid).state == largest)
        with self.assertRaises(IPCError):
            link.new_threadsafe(cls=hgx.Obj, state=largest + b'x')
        obj.state = largest + b'x'
        with self.assertRaises(IPCError):
            obj.push_threadsafe()
        # The connection is the same one, and still good.
        self.assertEqual(self.new(link).state, b'Hello world!')


class GetTest(HgxTest):
    def test_by_another_application(self):
        obj = self.new(self.link())
        again = self.get(self.link(), obj.ghid)
        self.assertEqual(again.state, b'Hello world!')
        self.assertTrue(again == obj)

    def test_alive_objects_come_from_the_link(self):
        link = self.link()
        obj = self.new(link)
        self.assertIs(link.get_threadsafe(hgx.Obj, obj.ghid), obj)
        with self.assertRaises(HGXLinkError):
            link.get_threadsafe(hgx.JsonObj, obj.ghid)

    def test_unknown_address(self):
        link = self.link()
        with self.assertRaises(DoesNotExist) as caught:
            link.get_threadsafe(hgx.Obj, hgx.Ghid.pseudorandom(1))
        self.assertIsInstance(caught.exception, KeyError)
        self.assertIsInstance(caught.exception, RuntimeError)

    def test_another_algorithm(self):
        link = self.link()
        with self.assertRaises(RuntimeError):
            link.get_threadsafe(hgx.Obj, hgx.Ghid.pseudorandom(0))
        self.assertEqual(self.new(link).state, b'Hello world!')

    def test_many_threads_on_one_link(self):
        link = self.link()
        objs = [self.new(link, state=b'%d' % i) for i in range(20)]
        reader = self.link()
        seen = queue.Queue()

        def read(obj):
            seen.put((obj.state, self.get(reader, obj.ghid).state))

        threads = [threading.Thread(target=read, args=(obj,)) for obj in objs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        pairs = [seen.get_nowait() for _ in objs]
        self.assertEqual([left for left, _ in pairs], [right for _, right in pairs])


class WrapTest(HgxTest):
    def assert_wrapped(self, writer, reader, wrap, thread_of):
        '''A wrapped callback is called with the object, in the right thread.'''
        obj = self.new(writer, hgx.JsonObj, 0)
        again = self.get(reader, obj.ghid, hgx.JsonObj)
        calls = queue.Queue()
        again.callback = wrap(calls)
        obj.state = 1
        obj.push_threadsafe()
        called_with, state, thread = self.expect(calls)
        self.assertIs(called_with, again)
        self.assertEqual(state, 1)
        thread_of(thread)

    def test_threadsafe_as_function(self):
        link = self.link()

        def wrap(calls):
            def callback(obj):
                calls.put((obj, obj.state, threading.current_thread()))
            wrapped = link.wrap_threadsafe(callback)
            self.assertIsNot(wrapped, callback)
            return wrapped

        loop_thread = in_loop(link, self.thread())
        self.assert_wrapped(self.link(), link, wrap,
                            lambda thread: self.assertIsNot(thread, loop_thread))

    def test_threadsafe_as_decorator(self):
        link = self.link()

        def wrap(calls):
            @link.wrap_threadsafe
            def callback(obj):
                calls.put((obj, obj.state, threading.current_thread()))
            return callback

        loop_thread = in_loop(link, self.thread())
        self.assert_wrapped(self.link(), link, wrap,
                            lambda thread: self.assertIsNot(thread, loop_thread))

    def test_threadsafe_callback_may_call_back_into_the_link(self):
        writer, link = self.link(), self.link()
        obj = self.new(writer, hgx.JsonObj, 0)
        again = self.get(link, obj.ghid, hgx.JsonObj)
        made = queue.Queue()

        @link.wrap_threadsafe
        def callback(obj):
            made.put(link.new_threadsafe(cls=hgx.JsonObj, state=obj.state))

        again.callback = callback
        obj.state = 'from a callback'
        obj.push_threadsafe()
        self.assertEqual(self.keep(self.expect(made)).state, 'from a callback')

    def test_loopsafe_as_function(self):
        with ForeignLoop() as foreign:
            link = self.link()

            def wrap(calls):
                async def callback(obj):
                    calls.put((obj, obj.state, threading.current_thread()))
                return link.wrap_loopsafe(callback, target_loop=foreign.loop)

            self.assert_wrapped(self.link(), link, wrap,
                                lambda thread: self.assertIs(thread, foreign.thread))

    def test_loopsafe_as_decorator(self):
        with ForeignLoop() as foreign:
            link = self.link()

            def wrap(calls):
                @link.wrap_loopsafe(target_loop=foreign.loop)
                async def callback(obj):
                    calls.put((obj, obj.state, threading.current_thread()))
                return callback

            self.assert_wrapped(self.link(), link, wrap,
                                lambda thread: self.assertIs(thread, foreign.thread))

    def test_share_handlers_in_every_form(self):
        writer = self.link()
        with ForeignLoop() as foreign:
            link = self.link()
            calls = queue.Queue()

            async def plain(ghid, origin, api_id):
                calls.put(('plain', ghid, origin, api_id))

            def threadsafe(ghid, origin, api_id):
                calls.put(('threadsafe', ghid, origin, api_id))

            async def loopsafe(ghid, origin, api_id):
                calls.put(('loopsafe', ghid, origin, api_id))

            forms = (
                ('plain', plain),
                ('threadsafe', link.wrap_threadsafe(threadsafe)),
                ('loopsafe', link.wrap_loopsafe(loopsafe, target_loop=foreign.loop)),
            )
            for name, handler in forms:
                api = fresh_api()
                link.register_share_handler_threadsafe(api, handler)
                obj = self.new(writer, api_id=api)
                self.assertEqual(self.expect(calls), (name, obj.ghid, writer.whoami, api))

    def test_handlers_and_callbacks_must_be_coroutines(self):
        link = self.link()
        obj = self.new(link)
        with self.assertRaises(TypeError):
            obj.callback = print
        with self.assertRaises(TypeError):
            link.register_share_handler_threadsafe(fresh_api(), print)
        with self.assertRaises(TypeError):
            link.register_share_handler_threadsafe(bytes(64), link.wrap_threadsafe(print))

    async def thread(self):
        return threading.current_thread()


if __name__ == '__main__':
    main()
