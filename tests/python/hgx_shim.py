'''What `hgx` 0.1.0 needs on Python 3.10 and later, outside the package.

`hgx` uses `websockets.client` without importing it, and `loopa` passes `loop=` to `asyncio.Event`,
which Python 3.10 removed. On 3.14 `HGXLink()` also finds no event loop made on demand. The test run
names this module in a `.pth` file of its virtual environment, so that programs stay unmodified.
'''
import asyncio
import sys

import websockets.client  # noqa: F401  the attribute the client expects to find

if sys.version_info >= (3, 10):
    class Event(asyncio.Event):
        def __init__(self, *, loop=None):
            super().__init__()

    asyncio.Event = Event

if sys.version_info >= (3, 14):
    asyncio.set_event_loop(asyncio.new_event_loop())
