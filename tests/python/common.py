'''What every file of this folder shares: links that are always stopped, a watchdog, waiting.

The client has no timeouts of its own: where it would hang for ever, the watchdog prints all stacks
and ends the process. The daemons come from outside, as ports in the environment:

    HGX_ALICE_PORT  HGX_ALICE_FINGERPRINT    the daemon most tests speak to
    HGX_BOB_PORT    HGX_BOB_FINGERPRINT      another user's daemon, within reach of the first
'''
import asyncio
import faulthandler
import os
import queue
import sys
import threading
import time
import unittest

import hgx
from hgx.utils import ApiID

ALICE = int(os.environ.get('HGX_ALICE_PORT', '7772'))
BOB = int(os.environ.get('HGX_BOB_PORT', '7773'))
ALICE_FINGERPRINT = os.environ.get('HGX_ALICE_FINGERPRINT')
BOB_FINGERPRINT = os.environ.get('HGX_BOB_FINGERPRINT')

# How long anything that has to happen may take, in seconds. Generous: two busy cores.
PATIENCE = 15
# How long something that must not happen is given to happen, in seconds.
QUIET = 0.3
# One test, everything included, in seconds.
TEST_MAX = 60


class HgxTest(unittest.TestCase):
    '''A test with links to daemons.'''

    def setUp(self):
        faulthandler.dump_traceback_later(TEST_MAX, exit=True)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        # The client keeps objects weakly, and an update to a collected one ends its link.
        self.kept = []

    def link(self, port=ALICE, **kwargs):
        '''A connected link, stopped at the end of the test.'''
        link = hgx.HGXLink(ipc_port=port, **kwargs)
        self.addCleanup(link.stop_threadsafe)
        return link

    def keep(self, obj):
        '''Keeps an object referenced until the test is over.'''
        self.kept.append(obj)
        return obj

    def new(self, link, cls=hgx.Obj, state=b'Hello world!', **kwargs):
        return self.keep(link.new_threadsafe(cls=cls, state=state, **kwargs))

    def get(self, link, ghid, cls=hgx.Obj):
        return self.keep(link.get_threadsafe(cls=cls, ghid=ghid))

    def eventually(self, condition, what='the condition'):
        '''Waits until `condition()` is true, and returns what it returned.'''
        deadline = time.monotonic() + PATIENCE
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                self.fail('waited {} s for {}'.format(PATIENCE, what))
            time.sleep(0.01)

    def quiet(self, calls):
        '''Asserts that nothing arrives in a queue for a moment.'''
        try:
            surprise = calls.get(timeout=QUIET)
        except queue.Empty:
            return
        self.fail('unexpected: {!r}'.format(surprise))

    def shares(self, link, api_id):
        '''Registers a share handler; returns the queue its calls go to.'''
        calls = queue.Queue()

        def handler(ghid, origin, api_id):
            calls.put((ghid, origin, api_id))

        link.register_share_handler_threadsafe(api_id, link.wrap_threadsafe(handler))
        return calls

    def updates(self, link, obj, attribute='callback'):
        '''Sets a callback; returns the queue of the states it was called with.

        A dead object, as after a deletion, puts `DeadObject`.
        '''
        states = queue.Queue()
        state = 'hgx_state' if attribute == 'hgx_callback' else 'state'

        async def callback(obj):
            try:
                states.put(getattr(obj, state))
            except hgx.exceptions.DeadObject:
                states.put(hgx.exceptions.DeadObject)

        setattr(obj, attribute, callback)
        return states

    def expect(self, calls):
        '''The next entry of a queue.'''
        try:
            return calls.get(timeout=PATIENCE)
        except queue.Empty:
            self.fail('nothing arrived within {} s'.format(PATIENCE))


def fresh_api():
    '''An API id that no other test uses.'''
    return ApiID.pseudorandom()


def in_loop(link, coroutine):
    '''Awaits a coroutine within the link's own event loop: the plain calling style.'''
    return asyncio.run_coroutine_threadsafe(coroutine, link._loop).result(PATIENCE)


class ForeignLoop:
    '''An event loop of the application's own, in a thread of its own.'''

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def main():
    '''Runs the tests of the file it is called from.'''
    faulthandler.enable()
    unittest.main(module='__main__', verbosity=2, argv=sys.argv)
