"""Hello world: make an object, read it back, change it, share it if somebody is named.

    python hello_world.py [PORT] [FINGERPRINT]
"""

import sys

import hgx

port = int(sys.argv[1]) if len(sys.argv) > 1 else 7772
hgxlink = hgx.HGXLink(ipc_port=port)
try:
    print("I am", hgxlink.whoami.as_str())

    obj = hgxlink.new_threadsafe(cls=hgx.JsonProxy, state="Hello world!")
    print("made", obj.hgx_ghid.as_str(), "with state", obj)

    # The link knows the object already, so this is the very same one.
    again = hgxlink.get_threadsafe(cls=hgx.JsonProxy, ghid=obj.hgx_ghid)
    print("read", again)

    obj += " Welcome to Hypergolix."
    obj.hgx_push_threadsafe()
    print("now ", again)

    if len(sys.argv) > 2:
        recipient = hgx.Ghid.from_str(sys.argv[2])
        obj.hgx_share_threadsafe(recipient)
        print("shared with", recipient)
finally:
    # Without this the process would not end.
    hgxlink.stop_threadsafe()
