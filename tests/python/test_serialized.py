'''JSON, pickle and custom serialization, as objects and as proxies.'''
import hgx
from hgx import Obj, Proxy
from hgx.utils import ApiID

from common import HgxTest, main

STATES = ('Hello!', 5, 5.25, None, True, [], {}, {'seven': 7}, {'a': [1, None, 'zwölf', '\u2603']})


class SerializedTest(HgxTest):
    def assert_states_travel(self, cls, api, states, name='{}'):
        writer, reader = self.link(), self.link()
        state, ghid, api_id, push, callback = (
            name.format(part) for part in ('state', 'ghid', 'api_id', 'push_threadsafe', 'callback'))
        obj = self.new(writer, cls, 'Hello!')
        self.assertEqual(getattr(obj, api_id), ApiID(bytes(63) + api))
        again = self.get(reader, getattr(obj, ghid), cls)
        self.assertEqual(getattr(again, state), 'Hello!')
        self.assertTrue(repr(again).startswith('<' + cls.__name__))
        updates = self.updates(reader, again, callback)
        for value in states:
            setattr(obj, state, value)
            getattr(obj, push)()
            self.assertEqual(self.expect(updates), value)
            self.assertEqual(getattr(self.get(self.link(), getattr(obj, ghid), cls), state), value)

    def test_json_obj(self):
        self.assert_states_travel(hgx.JsonObj, b'\3', STATES)

    def test_json_proxy(self):
        self.assert_states_travel(hgx.JsonProxy, b'\3', STATES, 'hgx_{}')

    def test_pickle_obj(self):
        self.assert_states_travel(hgx.PickleObj, b'\2', STATES + ((1, 2), {3}, b'bytes', 5j))

    def test_pickle_proxy(self):
        self.assert_states_travel(hgx.PickleProxy, b'\2', STATES + ((1, 2), {3}), 'hgx_{}')

    def test_the_bytes_behind_json(self):
        obj = self.new(self.link(), hgx.JsonObj, {'a': [1, None]})
        self.assertEqual(self.get(self.link(), obj.ghid).state, b'{"a":[1,null]}')

    def test_unserializable_states_show_at_the_push(self):
        for cls, bad in ((hgx.JsonObj, object()), (hgx.PickleObj, lambda: None)):
            writer = self.link()
            obj = self.new(writer, cls, 'good')
            obj.state = bad
            with self.assertRaises(Exception):
                obj.push_threadsafe()
            self.assertEqual(self.get(self.link(), obj.ghid, cls).state, 'good')

    def test_bytes_that_are_no_json(self):
        writer, reader = self.link(), self.link()
        raw = self.new(writer, state=b'not json', api_id=hgx.JsonObj._hgx_DEFAULT_API)
        with self.assertRaises(ValueError):
            reader.get_threadsafe(hgx.JsonObj, raw.ghid)
        self.assertEqual(self.get(self.link(), raw.ghid).state, b'not json')

    def test_an_update_that_does_not_unpack(self):
        writer, reader = self.link(), self.link()
        raw = self.new(writer, state=b'"good"')
        again = self.get(reader, raw.ghid, hgx.JsonObj)
        updates = self.updates(reader, again)
        raw.state = b'not json'
        raw.push_threadsafe()
        raw.state = b'"good again"'
        raw.push_threadsafe()
        self.assertEqual(self.expect(updates), 'good again')


class Reversed:
    '''States are bytes, stored back to front.'''
    _hgx_DEFAULT_API = ApiID(bytes(63) + b'\x04')

    @staticmethod
    async def hgx_pack(state):
        return bytes(reversed(state))

    @staticmethod
    async def hgx_unpack(packed):
        return bytes(reversed(packed))


class ReversedObj(Reversed, Obj):
    pass


class ReversedProxy(Reversed, Proxy):
    pass


class Counted(Obj):
    '''Class methods are allowed too.'''
    _hgx_DEFAULT_API = ApiID(bytes(63) + b'\x05')
    packed = 0

    @classmethod
    async def hgx_pack(cls, state):
        cls.packed += 1
        return str(state).encode()

    @classmethod
    async def hgx_unpack(cls, packed):
        return int(packed)


class CustomTest(HgxTest):
    def test_obj(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer, ReversedObj, b'abc')
        self.assertEqual(obj.api_id, ApiID(bytes(63) + b'\x04'))
        self.assertEqual(self.get(self.link(), obj.ghid).state, b'cba')
        again = self.get(reader, obj.ghid, ReversedObj)
        updates = self.updates(reader, again)
        obj.state = b'xyz'
        obj.push_threadsafe()
        self.assertEqual(self.expect(updates), b'xyz')
        frozen = self.keep(obj.freeze_threadsafe())
        self.assertIsInstance(frozen, ReversedObj)
        self.assertEqual(frozen.state, b'xyz')

    def test_proxy(self):
        writer, reader = self.link(), self.link()
        obj = self.new(writer, ReversedProxy, b'abc')
        again = self.get(reader, obj.hgx_ghid, ReversedProxy)
        self.assertEqual(again.hgx_api_id, ApiID(bytes(63) + b'\x04'))
        obj += b'def'
        obj.hgx_push_threadsafe()
        self.eventually(lambda: again == b'abcdef', 'the update')

    def test_class_methods(self):
        obj = self.new(self.link(), Counted, 7)
        obj.state += 1
        obj.push_threadsafe()
        self.assertEqual(Counted.packed, 2)
        self.assertEqual(self.get(self.link(), obj.ghid, Counted).state, 8)

    def test_recast_between_serializations(self):
        obj = self.new(self.link(), hgx.JsonObj, 'ab')
        recast = self.keep(obj.recast_threadsafe(ReversedObj))
        self.assertEqual(recast.state, b'"ba"')


if __name__ == '__main__':
    main()
