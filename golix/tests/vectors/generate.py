#!/usr/bin/env python3
"""Writes the vectors of suite 3: valid objects, and objects that break one named rule each.

An implementation of its own, from the formulas, with nothing but hashlib and the `cryptography`
package; it shares no code with the crate it tests. Deterministic: the same files every time.

    cd golix/tests/vectors
    python3 generate.py > suite3.json
    python3 generate.py negative > suite3-negative.json

The second is in the shape of golix-negative.json: what a persister and a recipient have to answer.
"""

import base64
import hashlib
import hmac
import json
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

VERSION = {b"GIDC": 2, b"GEOC": 14, b"GOBS": 6, b"GOBD": 16, b"GDXX": 9, b"GARQ": 12}
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def sha512(data):
    return hashlib.sha512(data).digest()


def seed(name, length=32):
    return sha512(b"golix suite 3 vectors: " + name.encode())[:length]


def ghid(data):
    return b"\x01" + sha512(data)


def expand(prk, info, length):
    out, block, n = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([n]), "sha512").digest()
        out, n = out + block, n + 1
    return out[:length]


def hkdf(ikm, salt, info, length):
    return expand(hmac.new(salt, ikm, "sha512").digest(), info, length)


def raw(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def head(magic, version=None, suite=3):
    return magic + struct.pack(">IB", VERSION[magic] if version is None else version, suite)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def flip(data, at, bit=0x01):
    data = bytearray(data)
    data[at] ^= bit
    return bytes(data)


class Identity:
    def __init__(self, name):
        self.name = name
        self.seeds = [seed(f"{name} {part}") for part in ("sign", "encrypt", "exchange")]
        self.sign_key = Ed25519PrivateKey.from_private_bytes(self.seeds[0])
        self.encrypt_key = X25519PrivateKey.from_private_bytes(self.seeds[1])
        self.exchange_key = X25519PrivateKey.from_private_bytes(self.seeds[2])
        self.publics = [raw(self.sign_key), raw(self.encrypt_key), raw(self.exchange_key)]
        self.gidc = addressed(head(b"GIDC") + b"".join(self.publics))
        self.ghid = self.gidc[-65:]


def addressed(body, algo=1):
    body += bytes([algo])
    return body + sha512(body)


def signature(me, address):
    return me.sign_key.sign(b"golix-3 sign\0" + address)


def signed(me, body, algo=1):
    data = addressed(body, algo)
    return data + signature(me, data[-65:])


def resigned(me, data):
    """Hash and signature made right again after an edit before them."""
    return signed(me, data[:-129])


def secret_bytes(key, seed_, version=2, suite=3, magic=b"SH"):
    return magic + struct.pack(">HB", version, suite) + key + seed_


def geoc(me, key, seed_, salt, plaintext, author=None, edit=lambda payload: payload, com=None):
    author = author or me.ghid
    okm = hkdf(key + seed_, salt, b"golix-3 geoc\0" + author, 76)
    header = head(b"GEOC") + author + struct.pack(">Q", len(plaintext) + 80)
    com = okm[44:] if com is None else com
    aad = header + salt + com
    sealed = AESGCM(okm[:32]).encrypt(okm[32:44], plaintext, aad)
    return signed(me, header + edit(salt + com + sealed))


def binding(magic, me, target, binder=None):
    return signed(me, head(magic) + (binder or me.ghid) + target)


def dynamic_ghid(binder, birth):
    return ghid(head(b"GOBD") + binder + struct.pack(">QH", 0, 65) + birth + b"\x01")


def gobd(me, counter, targets, dynamic=None, binder=None, vector=None, vector_len=None):
    binder = binder or me.ghid
    dynamic = dynamic or dynamic_ghid(binder, targets[-1])
    vector = b"".join(targets) if vector is None else vector
    vector_len = len(vector) if vector_len is None else vector_len
    return signed(me, head(b"GOBD") + binder + struct.pack(">QH", counter, vector_len) + vector + dynamic)


def letter(author, kind, payload, payload_len=None):
    payload_len = len(payload) if payload_len is None else payload_len
    return author + kind + struct.pack(">H", payload_len) + payload


def mac_of(author, to, s1, s2, ephemeral, com, padded, **change):
    """The author's MAC; `change` names one part that a broken vector gets wrong."""
    author_ghid = change.get("author_ghid", author)
    salt = change.get("salt", xor(author_ghid[1:], to[1:]))
    ikm = change.get("ikm", s2 + s1)
    info = change.get("info", b"golix-3 garq mac\0" + author_ghid + to + ephemeral)
    key = change.get("key", hkdf(ikm, salt, info, 64))
    message = change.get("message", b"golix-3 garq mac\0" + to + ephemeral + com + padded)
    return hmac.new(key, message, "sha512").digest()


def outer(address):
    return sha512(b"golix-3 garq outer\0" + address)


def garq(author, recipient, text, e, mac=None, recipient_field=None, edit=None, box_key=None, ephemeral=None, s1=None, com=None):
    """A request. `mac(parts)` may return the changes for mac_of; `edit(box)` may break the box."""
    private = X25519PrivateKey.from_private_bytes(e)
    ephemeral = raw(private) if ephemeral is None else ephemeral
    box_public = recipient.publics[1] if box_key is None else box_key
    s1 = s1 or private.exchange(X25519PublicKey.from_public_bytes(box_public))
    s2 = author.exchange_key.exchange(X25519PublicKey.from_public_bytes(recipient.publics[2]))
    to = recipient_field or recipient.ghid
    okm = hkdf(s1, bytes(64), b"golix-3 garq box\0" + to + ephemeral + box_public, 76)
    com = okm[44:] if com is None else com
    padded = text + bytes(368 - len(text))
    change = mac(s1=s1, s2=s2, ephemeral=ephemeral, com=com, padded=padded) if mac else {}
    code = mac_of(author.ghid, to, s1, s2, ephemeral, com, padded, **change)
    header = head(b"GARQ") + to
    aad = header + ephemeral + com
    box = ephemeral + com + AESGCM(okm[:32]).encrypt(okm[32:44], padded + code, aad)
    data = addressed(header + (edit(box) if edit else box))
    return data + outer(data[-65:])


def garq_resealed(data):
    """Hash and outer field made right again after an edit before them."""
    data = addressed(data[:586])
    return data + outer(data[-65:])


def b64(data):
    return base64.b64encode(data).decode()


def main():
    alice, bob, mallory = Identity("alice"), Identity("bob"), Identity("mallory")
    out = {
        "format": "golix objects 1",
        "suite": 3,
        "identities": {
            me.name: {
                "sign": me.seeds[0].hex(),
                "encrypt": me.seeds[1].hex(),
                "exchange": me.seeds[2].hex(),
                "gidc": b64(me.gidc),
                "ghid": me.ghid.hex(),
                "text": base64.urlsafe_b64encode(me.ghid).decode(),
            }
            for me in (alice, bob, mallory)
        },
        "secrets": [],
        "chains": [],
        "geoc": [],
        "gobs": [],
        "gdxx": [],
        "gobd": [],
        "garq": [],
        "negative": [],
    }
    key, seed_ = seed("key"), seed("seed", 16)
    good_secret = secret_bytes(key, seed_)
    for name, k, s in [("plain", key, seed_), ("zeros", bytes(32), bytes(16)), ("ones", b"\xff" * 32, b"\xff" * 16)]:
        out["secrets"].append({"name": name, "key": k.hex(), "seed": s.hex(), "packed": secret_bytes(k, s).hex()})

    # --- chains
    for name, dynamic, epoch, index, to in [
        ("one-step", ghid(b"dynamic"), 0, 0, 1),
        ("no-step", ghid(b"dynamic"), 1, 5, 5),
        ("many-steps", ghid(b"another dynamic"), 2**32 - 1, 250, 260),
        ("last-index", ghid(b"dynamic"), 3, 2**64 - 3, 2**64 - 1),
    ]:
        chain = start = seed(f"chain {name}")
        for i in range(index + 1, to + 1):
            chain = expand(chain, b"golix-3 chain\0" + dynamic + struct.pack(">Q", i), 32)
        okm = expand(chain, b"golix-3 frame\0" + dynamic + struct.pack(">Q", to), 48)
        out["chains"].append({
            "name": name, "dynamic": dynamic.hex(), "epoch": epoch, "index": str(index), "key": start.hex(),
            "to_index": str(to), "to_key": chain.hex(), "container_secret": secret_bytes(okm[:32], okm[32:]).hex(),
            "handshake": secret_bytes(chain, struct.pack(">IQ", epoch, to) + bytes(4)).hex(),
        })

    # --- containers
    for name, plaintext in [
        ("empty", b""), ("one-byte", b"x"), ("block", b"0123456789abcdef"), ("over-a-block", b"0123456789abcdef!"),
        ("thousand", bytes(i % 251 for i in range(1000))), ("five-thousand", bytes(i % 253 for i in range(5000))),
    ]:
        salt = seed(f"salt {name}")
        data = geoc(alice, key, seed_, salt, plaintext)
        out["geoc"].append({
            "name": name, "author": "alice", "key": key.hex(), "seed": seed_.hex(), "salt": salt.hex(),
            "plaintext": b64(plaintext), "packed": b64(data), "ghid": data[-129:-64].hex(),
        })
    salt = seed("salt")
    good_geoc = geoc(alice, key, seed_, salt, b"attack at dawn")
    target, other = good_geoc[-129:-64], ghid(b"other target")

    # --- bindings
    for kind, magic in [("gobs", b"GOBS"), ("gdxx", b"GDXX")]:
        for me, name, what in [(alice, "container", target), (alice, "any", other), (bob, "same-target-of-bob", target)]:
            data = binding(magic, me, what)
            out[kind].append({"name": name, "binder": me.name, "target": what.hex(), "packed": b64(data), "ghid": data[-129:-64].hex()})
    birth = ghid(b"birth target")
    many = [ghid(b"history %d" % i) for i in range(1007)] + [birth]
    for name, counter, targets, makeable in [
        ("first", 0, [birth], True), ("second", 1, [other, birth], True), ("usual", 7, [target, other, birth], True),
        ("back-to-birth", 8, [birth, birth], True), ("jump", 2**32 + 5, [target, birth], True),
        ("last-counter", 2**64 - 1, [target, birth], True), ("sixteen-targets", 9, many[-16:], True),
        ("most-targets", 10, many, False),
    ]:
        data = gobd(alice, counter, targets)
        out["gobd"].append({
            "name": name, "binder": "alice", "counter": str(counter), "targets": [t.hex() for t in targets],
            "dynamic": dynamic_ghid(alice.ghid, birth).hex(), "makeable": makeable, "packed": b64(data), "ghid": data[-129:-64].hex(),
        })
    dynamic = dynamic_ghid(alice.ghid, birth)

    # --- requests
    hs = dynamic + bytes([53]) + good_secret
    for name, a, r, kind, payload, fields in [
        ("handshake", alice, bob, b"HS", hs, {"target": dynamic.hex(), "secret": good_secret.hex()}),
        ("handshake-back", bob, alice, b"HS", hs, {"target": dynamic.hex(), "secret": good_secret.hex()}),
        ("handshake-to-self", alice, alice, b"HS", hs, {"target": dynamic.hex(), "secret": good_secret.hex()}),
        ("ack", bob, alice, b"AK", other + struct.pack(">I", 0), {"request": other.hex(), "status": 0}),
        ("nak", bob, alice, b"NK", other + struct.pack(">I", 2**32 - 1), {"request": other.hex(), "status": 2**32 - 1}),
        ("arbitrary-empty", alice, bob, b"\0\0", b"", {"payload": ""}),
        ("arbitrary-longest", alice, bob, b"\0\0", bytes(range(256)) + bytes(43), {"payload": b64(bytes(range(256)) + bytes(43))}),
    ]:
        e = seed(f"ephemeral {name}")
        data = garq(a, r, letter(a.ghid, kind, payload), e)
        out["garq"].append({
            "name": name, "author": a.name, "recipient": r.name, "ephemeral": e.hex(), "kind": kind.hex(),
            **fields, "packed": b64(data), "ghid": data[-129:-64].hex(),
        })
    e = seed("ephemeral")
    text = letter(alice.ghid, b"HS", hs)
    good_garq = garq(alice, bob, text, e)

    # --- what must be refused
    def no(name, stage, rule, data, **more):
        out["negative"].append({"name": name, "stage": stage, "rule": rule, "input": b64(data), **more})

    # addresses and secrets
    no("ghid-empty", "ghid", "GHID_LENGTH", b"")
    no("ghid-64", "ghid", "GHID_LENGTH", other[:64])
    no("ghid-66", "ghid", "GHID_LENGTH", other + b"\0")
    no("ghid-algo-0", "ghid", "GHID_ALGO", b"\0" + other[1:])
    no("ghid-algo-2", "ghid", "GHID_ALGO", b"\x02" + other[1:])
    no("ghid-algo-255", "ghid", "GHID_ALGO", b"\xff" + other[1:])
    words = base64.urlsafe_b64encode(other).decode()
    plus = base64.b64encode(b"\x01" + b"\xff" * 64).decode()
    for name, bad in [
        ("empty", ""), ("no-padding", words[:-1]), ("extra-padding", words + "="), ("space-before", " " + words),
        ("newline-after", words + "\n"), ("junk-inside", words[:40] + "!" + words[40:]),
        ("noncanonical-tail", words[:-2] + {"A": "B", "E": "F", "I": "J", "M": "N", "Q": "R", "U": "V", "Y": "Z", "c": "d", "g": "h", "k": "l", "o": "p", "s": "t", "w": "x", "0": "1", "4": "5", "8": "9"}[words[-2]] + "="),
        ("hex", other.hex()), ("slash-alphabet", plus), ("algo-0-text", base64.urlsafe_b64encode(b"\0" + other[1:]).decode()),
    ]:
        no(f"ghid-text-{name}", "ghid-text", "GHID_STR", bad.encode())
    no("secret-empty", "secret", "TRUNCATED", b"")
    no("secret-truncated-1", "secret", "TRUNCATED", good_secret[:-1])
    no("secret-trailing-byte", "secret", "TRAILING", good_secret + b"\0")
    no("secret-magic", "secret", "MAGIC", secret_bytes(key, seed_, magic=b"HS"))
    no("secret-version-1", "secret", "VERSION", secret_bytes(key, seed_, version=1))
    no("secret-version-little-endian", "secret", "VERSION", secret_bytes(key, seed_, version=0x0200))
    for suite in (0, 2, 4, 255):
        no(f"secret-suite-{suite}", "secret", "SUITE", secret_bytes(key, seed_, suite=suite))

    # what all kinds share
    no("raw-empty", "parse", "MAGIC", b"")
    no("raw-three-bytes", "parse", "MAGIC", b"GOB")
    no("raw-unknown-magic", "parse", "MAGIC", b"GOBX" + binding(b"GOBS", alice, target)[4:])
    no("raw-lowercase-magic", "parse", "MAGIC", binding(b"GOBS", alice, target)[:4].lower() + binding(b"GOBS", alice, target)[4:])
    no("raw-zeros", "parse", "MAGIC", bytes(300))
    kinds = [
        ("gidc", alice.gidc), ("geoc", good_geoc), ("gobs", binding(b"GOBS", alice, target)),
        ("gobd", gobd(alice, 7, [target, other, birth])), ("gdxx", binding(b"GDXX", alice, target)), ("garq", good_garq),
    ]
    for kind, good in kinds:
        tail = {"gidc": 65}.get(kind, 129)

        def right(data, kind=kind):
            if kind == "gidc":
                return addressed(data[:-65])
            return garq_resealed(data) if kind == "garq" else resigned(alice, data)

        version = good[4:8]
        for name, bad in [("plus-1", struct.pack(">I", VERSION[good[:4]] + 1)), ("minus-1", struct.pack(">I", VERSION[good[:4]] - 1)), ("little-endian", version[::-1])]:
            no(f"{kind}-version-{name}", "parse", "VERSION", right(good[:4] + bad + good[8:]))
        for suite in (0, 2, 4, 255):
            no(f"{kind}-suite-{suite}", "parse", "SUITE", right(good[:8] + bytes([suite]) + good[9:]))
        no(f"{kind}-head-only", "parse", "TRUNCATED", good[:9])
        no(f"{kind}-half-a-head", "parse", "TRUNCATED", good[:6])
        varies = kind in ("geoc", "gobd")
        no(f"{kind}-truncated-1", "parse", "LENGTH" if varies else "TRUNCATED", good[:-1])
        no(f"{kind}-truncated-half", "parse", "TRUNCATED", good[: 80])
        no(f"{kind}-trailing-byte", "parse", "TRAILING", good + b"\0")
        no(f"{kind}-twice", "parse", "TRAILING", good + good)
        no(f"{kind}-hash-bit", "parse", "HASH", flip(good, len(good) - tail + 1))
        no(f"{kind}-hash-last-bit", "parse", "HASH", flip(good, len(good) - tail + 64))
        for algo in (0, 2, 255):
            at = len(good) - tail
            forged = good[:at] + bytes([algo])
            forged += sha512(forged)
            if kind == "garq":
                forged += outer(forged[-65:])
            elif kind != "gidc":
                forged += signature(alice, forged[-65:])
            no(f"{kind}-address-algo-{algo}", "parse", "ADDR_ALGO", forged)
        if kind != "gidc":
            for algo in (0, 2):
                no(f"{kind}-first-ghid-algo-{algo}", "parse", "GHID_ALGO", right(good[:9] + bytes([algo]) + good[10:]))
        if kind not in ("gidc", "garq"):
            name = {"author": "alice"}
            address = good[-129:-64]
            sign_of = lambda me, message: good[:-64] + me.sign_key.sign(message)
            sig = good[-64:]
            s = int.from_bytes(sig[32:], "little")
            for what, bad in [
                ("zero", good[:-64] + bytes(64)), ("ones", good[:-64] + b"\xff" * 64),
                ("by-other", good[:-64] + signature(mallory, address)),
                ("without-label", sign_of(alice, address)), ("over-hash", sign_of(alice, b"golix-3 sign\0" + address[1:])),
                ("over-file", sign_of(alice, good[:-64])), ("statement-label", sign_of(alice, b"golix-3 signs\0" + address)),
                ("s-plus-l", good[:-32] + (s + L).to_bytes(32, "little")),
                ("r-bit", flip(good, len(good) - 64)), ("s-bit", flip(good, len(good) - 32)),
                # R = identity, S = 0: what a small-order key would sign; and a non-canonical R.
                ("small-r", good[:-64] + (1).to_bytes(32, "little") + bytes(32)),
                # R = identity, S = k a: made by the key's owner, and the equation holds.
                ("small-r-by-author", good[:-64] + small_r(alice, b"golix-3 sign\0" + address)),
                ("noncanonical-r", good[:-64] + (P + 1).to_bytes(32, "little") + bytes(32)),
            ]:
                no(f"{kind}-signature-{what}", "verify", "SIGNATURE", bad, **name)
            no(f"{kind}-author-unknown", "verify", "AUTHOR_UNKNOWN", good)
            no(f"{kind}-author-other", "verify", "AUTHOR", good, author="bob")
    gobs = binding(b"GOBS", alice, target)
    no("gobs-magic-turned-gdxx", "parse", "VERSION", b"GDXX" + gobs[4:])
    no("gobs-magic-and-version-turned-gdxx", "parse", "HASH", head(b"GDXX") + gobs[9:])
    for kind, magic in [("gobs", b"GOBS"), ("gdxx", b"GDXX")]:
        for algo in (0, 2):
            no(f"{kind}-target-algo-{algo}", "parse", "GHID_ALGO", binding(magic, alice, bytes([algo]) + target[1:]))
        no(f"{kind}-target-bit", "parse", "HASH", flip(binding(magic, alice, target), 100))
        no(f"{kind}-binder-changed-and-rehashed", "verify", "SIGNATURE", binding(magic, mallory, target, binder=alice.ghid), author="alice")

    # identities
    def gidc(sign=None, encrypt=None, exchange=None):
        keys = [given or own for given, own in zip((sign, encrypt, exchange), alice.publics)]
        return addressed(head(b"GIDC") + b"".join(keys))

    le = lambda n: n.to_bytes(32, "little")
    d = -121665 * pow(121666, -1, P) % P
    eight = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    for name, bad in [
        ("identity-point", le(1)), ("order-2", le(P - 1)), ("order-4", le(0)), ("order-8", bytes.fromhex(eight)),
        ("noncanonical-zero", le(P)), ("noncanonical-one", le(P + 1)), ("identity-with-sign", flip(le(1), 31, 0x80)),
        *((f"noncanonical-{y}", le(P + y)) for y in spelled_twice(d)), ("all-ones", b"\xff" * 32), ("not-on-curve", not_on_curve(d)),
        ("with-torsion-2", torsioned(alice.publics[0], (0, P - 1), d)),
        ("with-torsion-4", torsioned(alice.publics[0], (pow(2, (P - 1) // 4, P), 0), d)),
        ("with-torsion-8", torsioned(alice.publics[0], decompress(bytes.fromhex(eight), d), d)),
    ]:
        no(f"gidc-signature-key-{name}", "parse", "KEY_SIG", gidc(sign=bad))
    low = [
        ("zero", le(0)), ("one", le(1)), ("minus-one", le(P - 1)), ("p", le(P)), ("p-plus-one", le(P + 1)),
        ("order-8-a", bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")),
        ("order-8-b", bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")),
        ("nine-spelled-with-top-bit", flip(le(9), 31, 0x80)), ("nine-plus-p", le(P + 9)), ("all-ones", b"\xff" * 32),
        ("zero-with-top-bit", flip(le(0), 31, 0x80)),
    ]
    for name, bad in low:
        no(f"gidc-encryption-key-{name}", "parse", "KEY_ENC", gidc(encrypt=bad))
        no(f"gidc-exchange-key-{name}", "parse", "KEY_EXC", gidc(exchange=bad))
    no("gidc-encryption-and-exchange-key-equal", "parse", "KEY_EXC", gidc(exchange=alice.publics[1]))
    no("gidc-key-bit", "parse", "HASH", flip(alice.gidc, 50))

    # containers
    def length(n, data=good_geoc):
        return resigned(alice, data[:74] + struct.pack(">Q", n) + data[82:])

    n = len(good_geoc) - 211
    no("geoc-length-plus-1", "parse", "LENGTH", length(n + 1))
    no("geoc-length-minus-1", "parse", "TRAILING", length(n - 1))
    no("geoc-length-80-with-more", "parse", "TRAILING", length(80))
    for name, value in [("0", 0), ("79", 79), ("2pow64-1", 2**64 - 1), ("2pow64-211", 2**64 - 211), ("2pow63", 2**63), ("1GiB-and-1", 2**30 + 81), ("1GiB", 2**30 + 80)]:
        no(f"geoc-length-{name}", "parse", "LENGTH", length(value))
    no("geoc-payload-79", "parse", "LENGTH", signed(alice, head(b"GEOC") + alice.ghid + struct.pack(">Q", 79) + bytes(79)))
    no("geoc-payload-0", "parse", "LENGTH", signed(alice, head(b"GEOC") + alice.ghid + struct.pack(">Q", 0)))
    no("geoc-payload-bit", "parse", "HASH", flip(good_geoc, 150))
    for name, at in [("salt", 82), ("commitment", 114)]:
        no(f"geoc-{name}-bit-resigned", "open", "WRONG_SECRET", resigned(alice, flip(good_geoc, at)), author="alice", secret=good_secret.hex())
    for name, at in [("ciphertext", 146), ("tag", len(good_geoc) - 130)]:
        no(f"geoc-{name}-bit-resigned", "open", "DAMAGED", resigned(alice, flip(good_geoc, at)), author="alice", secret=good_secret.hex())
    no("geoc-ciphertext-shorter-resigned", "open", "DAMAGED", signed(alice, head(b"GEOC") + alice.ghid + struct.pack(">Q", n - 1) + good_geoc[82:82 + n - 17] + good_geoc[82 + n - 16:82 + n]), author="alice", secret=good_secret.hex())
    no("geoc-taken-over-by-mallory", "open", "WRONG_SECRET", resigned(mallory, good_geoc[:9] + mallory.ghid + good_geoc[74:]), author="mallory", secret=good_secret.hex())
    no("geoc-sealed-for-other-author", "open", "WRONG_SECRET", signed(mallory, head(b"GEOC") + mallory.ghid + good_geoc[74:-129]), author="mallory", secret=good_secret.hex())
    no("geoc-wrong-key", "open", "WRONG_SECRET", good_geoc, author="alice", secret=secret_bytes(flip(key, 0), seed_).hex())
    no("geoc-wrong-seed", "open", "WRONG_SECRET", good_geoc, author="alice", secret=secret_bytes(key, flip(seed_, 15)).hex())
    no("geoc-wrong-commitment-sealed-consistently", "open", "WRONG_SECRET", geoc(alice, key, seed_, salt, b"x", com=bytes(32)), author="alice", secret=good_secret.hex())
    no("geoc-salt-and-commitment-swapped", "open", "WRONG_SECRET", geoc(alice, key, seed_, salt, b"x", edit=lambda p: p[32:64] + p[:32] + p[64:]), author="alice", secret=good_secret.hex())
    draft = hkdf(key, seed_, b"golix-3 geoc\0" + alice.ghid, 76)
    header = head(b"GEOC") + alice.ghid + struct.pack(">Q", 48 + 40)
    no("geoc-unsalted-draft", "open", "WRONG_SECRET", signed(alice, header + draft[44:] + AESGCM(draft[:32]).encrypt(draft[32:44], bytes(40), header)), author="alice", secret=good_secret.hex())
    okm = hkdf(key + seed_, salt, b"golix-3 geoc\0" + alice.ghid, 76)
    header = head(b"GEOC") + alice.ghid + struct.pack(">Q", 81)
    no("geoc-aad-header-only", "open", "DAMAGED", signed(alice, header + salt + okm[44:] + AESGCM(okm[:32]).encrypt(okm[32:44], b"x", header)), author="alice", secret=good_secret.hex())

    # frames
    def frame(**change):
        return gobd(alice, change.pop("counter", 7), change.pop("targets", [target, other, birth]), **change)

    vector = target + other + birth
    no("gobd-vector-empty", "parse", "TARGET_VECTOR", frame(vector=b"", dynamic=dynamic))
    for size in (1, 64, 66, 194, 196):
        no(f"gobd-vector-{size}", "parse", "TARGET_VECTOR", frame(vector=(vector + bytes(9))[:size], dynamic=dynamic))
    no("gobd-vector-length-0", "parse", "TARGET_VECTOR", frame(vector_len=0, dynamic=dynamic))
    no("gobd-vector-length-3", "parse", "TARGET_VECTOR", frame(vector_len=3, dynamic=dynamic))
    no("gobd-vector-length-260", "parse", "LENGTH", frame(vector_len=260, dynamic=dynamic))
    no("gobd-vector-length-130", "parse", "TRAILING", frame(vector_len=130, dynamic=dynamic))
    no("gobd-vector-length-65535", "parse", "TARGET_VECTOR", frame(vector_len=65535, dynamic=dynamic))
    no("gobd-vector-length-65520", "parse", "LENGTH", frame(vector_len=65520, dynamic=dynamic))
    for at, name in [(0, "current"), (1, "history"), (2, "birth")]:
        bad = [target, other, birth]
        bad[at] = b"\0" + bad[at][1:]
        no(f"gobd-{name}-target-algo-0", "parse", "GHID_ALGO", frame(targets=bad, dynamic=dynamic))
    for algo in (0, 2):
        no(f"gobd-dynamic-algo-{algo}", "parse", "GHID_ALGO", frame(dynamic=bytes([algo]) + dynamic[1:]))
    no("gobd-counter-0-two-targets", "parse", "FRAME_SHAPE", frame(counter=0, targets=[other, birth]))
    no("gobd-counter-5-one-target", "parse", "FRAME_SHAPE", frame(counter=5, targets=[birth]))
    no("gobd-first-frame-wrong-dynamic", "parse", "DYN_HASH", frame(counter=0, targets=[birth], dynamic=flip(dynamic, 64)))
    no("gobd-first-frame-dynamic-of-target-only", "parse", "DYN_HASH", frame(counter=0, targets=[birth], dynamic=ghid(birth)))
    own = head(b"GOBD") + alice.ghid + struct.pack(">QH", 7, 195) + vector + b"\x01"
    no("gobd-dynamic-over-own-prefix", "parse", "DYN_HASH", frame(dynamic=ghid(own)))
    no("gobd-dynamic-without-algorithm", "parse", "DYN_HASH", frame(dynamic=ghid(head(b"GOBD") + alice.ghid + struct.pack(">QH", 0, 65) + birth)))
    no("gobd-birth-not-last", "parse", "DYN_HASH", frame(targets=[birth, target, other], dynamic=dynamic))
    no("gobd-birth-missing", "parse", "DYN_HASH", frame(targets=[target, other], dynamic=dynamic))
    no("gobd-hijack-by-mallory", "parse", "DYN_HASH", gobd(mallory, 8, [target, birth], dynamic=dynamic))
    no("gobd-hijack-with-last-counter", "parse", "DYN_HASH", gobd(mallory, 2**64 - 1, [target, birth], dynamic=dynamic))
    no("gobd-mallory-signs-for-alice", "verify", "SIGNATURE", gobd(mallory, 8, [target, birth], binder=alice.ghid), author="alice")
    no("gobd-counter-bit", "parse", "HASH", flip(frame(), 81))

    # requests: what everybody sees
    no("garq-spec-size-781", "parse", "TRAILING", good_garq + bytes(66))
    no("garq-box-bit", "parse", "HASH", flip(good_garq, 300))
    address = good_garq[586:651]
    for name, bad in [
        ("bit", flip(good_garq, 714)), ("zero", good_garq[:651] + bytes(64)), ("unlabelled", good_garq[:651] + sha512(address)),
        ("of-hash", good_garq[:651] + outer(address[1:])), ("of-other", good_garq[:651] + outer(other)),
    ]:
        no(f"garq-outer-{name}", "verify", "OUTER", bad)

    # requests: what the recipient sees; outside all of these look alike
    def received(name, rule, data, to="bob", known=("alice", "bob", "mallory")):
        no(f"receive-{name}", "receive", rule, data, recipient=to, known=list(known))

    received("not-the-recipient", "RECIPIENT", good_garq, to="mallory")
    received("recipient-field-of-other", "RECIPIENT", garq(alice, bob, text, e, recipient_field=mallory.ghid))
    received("sealed-to-exchange-key", "DECRYPT", garq(alice, bob, text, e, box_key=bob.publics[2]))
    received("sealed-to-mallory", "DECRYPT", garq(alice, bob, text, e, box_key=mallory.publics[1]))
    for name, at in [("ephemeral", 0), ("commitment", 32), ("ciphertext", 64), ("mac", 440), ("tag", 511)]:
        received(f"{name}-bit", "DECRYPT", garq(alice, bob, text, e, edit=lambda box, at=at: flip(box, at)))
    received("header-edited-and-resealed", "DECRYPT", garq_resealed(garq(alice, mallory, text, e)[:9] + bob.ghid + garq(alice, mallory, text, e)[74:]))
    for name, bad in low:
        received(f"ephemeral-{name}", "DECRYPT", garq(alice, bob, text, e, ephemeral=bad))
    for name, bad in [low[0], low[1], low[2], low[5], low[6]]:
        received(f"shared-secret-zero-with-{name}", "DECRYPT", garq(alice, bob, text, e, ephemeral=bad, s1=bytes(32)))
    received("wrong-commitment-sealed-consistently", "DECRYPT", garq(alice, bob, text, e, com=bytes(32)))
    received("author-unknown", "AUTHOR", good_garq, known=("bob", "mallory"))
    received("author-not-an-identity", "AUTHOR", garq(alice, bob, letter(other, b"HS", hs), e))
    received("author-claimed-by-mallory", "MAC", garq(mallory, bob, text, e, mac=lambda **p: {"author_ghid": alice.ghid}))
    received("mac-zero", "MAC", garq(alice, bob, text, e, edit=None, mac=lambda **p: {"message": b""}))
    for name, change in [
        ("no-salt", lambda **p: {"salt": bytes(64)}), ("ikm-order", lambda **p: {"ikm": p["s1"] + p["s2"]}),
        ("ikm-without-s1", lambda **p: {"ikm": p["s2"]}), ("ikm-without-s2", lambda **p: {"ikm": p["s1"]}),
        ("info-empty", lambda **p: {"info": b""}),
        ("info-without-ephemeral", lambda **p: {"info": b"golix-3 garq mac\0" + alice.ghid + bob.ghid}),
        ("info-roles-reversed", lambda **p: {"info": b"golix-3 garq mac\0" + bob.ghid + alice.ghid + p["ephemeral"]}),
        ("message-without-label", lambda **p: {"message": bob.ghid + p["ephemeral"] + p["com"] + p["padded"]}),
        ("message-without-commitment", lambda **p: {"message": b"golix-3 garq mac\0" + bob.ghid + p["ephemeral"] + p["padded"]}),
        ("message-without-padding", lambda **p: {"message": b"golix-3 garq mac\0" + bob.ghid + p["ephemeral"] + p["com"] + text}),
        ("key-is-shared-secret", lambda **p: {"key": p["s2"]}),
    ]:
        received(f"mac-{name}", "MAC", garq(alice, bob, text, e, mac=change))
    for name, rule, bad in [
        ("author-algo-0", "INNER_GHID", b"\0" + text[1:]),
        ("target-algo-2", "INNER_GHID", letter(alice.ghid, b"HS", b"\x02" + hs[1:])),
        ("kind-unknown", "INNER_KIND", letter(alice.ghid, b"XX", hs)),
        ("kind-rq-old-draft", "INNER_KIND", letter(alice.ghid, b"RQ", hs)),
        ("kind-lowercase", "INNER_KIND", letter(alice.ghid, b"hs", hs)),
        ("length-zero", "INNER_LENGTH", letter(alice.ghid, b"HS", hs, 0)),
        ("length-plus-1", "INNER_LENGTH", letter(alice.ghid, b"HS", hs, len(hs) + 1)),
        ("length-minus-1", "INNER_LENGTH", letter(alice.ghid, b"HS", hs, len(hs) - 1)),
        ("length-300", "INNER_LENGTH", letter(alice.ghid, b"\0\0", b"", 300)),
        ("length-65535", "INNER_LENGTH", letter(alice.ghid, b"\0\0", b"", 65535)),
        ("trailing", "INNER_LENGTH", letter(alice.ghid, b"HS", hs + b"\0")),
        ("padding-first-byte", "INNER_LENGTH", text + b"\x01"),
        ("padding-last-byte", "INNER_LENGTH", text + bytes(368 - len(text) - 1) + b"\x01"),
        ("arbitrary-padding", "INNER_LENGTH", letter(alice.ghid, b"\0\0", b"abc") + b"d"),
        ("ack-status-32-bytes", "INNER_LENGTH", letter(alice.ghid, b"AK", other + bytes(32))),
        ("ack-without-status", "INNER_LENGTH", letter(alice.ghid, b"AK", other)),
        ("nak-short", "INNER_LENGTH", letter(alice.ghid, b"NK", other[:40])),
        ("secret-length-52", "INNER_LENGTH", letter(alice.ghid, b"HS", dynamic + bytes([52]) + good_secret)),
        ("secret-length-54", "INNER_LENGTH", letter(alice.ghid, b"HS", dynamic + bytes([54]) + good_secret)),
        ("secret-length-zero", "INNER_LENGTH", letter(alice.ghid, b"HS", dynamic + bytes([0]) + good_secret)),
        ("secret-absent", "SECRET", letter(alice.ghid, b"HS", dynamic + bytes([0]))),
        ("secret-short", "SECRET", letter(alice.ghid, b"HS", dynamic + bytes([52]) + good_secret[:-1])),
        ("secret-magic", "SECRET", letter(alice.ghid, b"HS", dynamic + bytes([53]) + b"HS" + good_secret[2:])),
        ("secret-suite-2", "SECRET", letter(alice.ghid, b"HS", dynamic + bytes([53]) + secret_bytes(key, seed_, suite=2))),
        ("secret-version-1", "SECRET", letter(alice.ghid, b"HS", dynamic + bytes([53]) + secret_bytes(key, seed_, version=1))),
    ]:
        received(name, rule, garq(alice, bob, bad, e))

    names = [vector["name"] for vector in out["negative"]]
    assert len(names) == len(set(names)), "names are unique"
    if sys.argv[1:] == ["negative"]:
        out = answers(alice, bob, mallory, out["negative"])
    json.dump(out, sys.stdout, indent=1)
    print()


# --- what a persister and a recipient answer: the shape of golix-negative.json


NAK = {
    "SIGNATURE": "0002", "OUTER": "0002", "SUITE_MISMATCH": "0002", "AUTHOR_UNKNOWN": "0003", "AUTHOR_NOT_IDENTITY": "0003",
    "RECIPIENT_UNKNOWN": "0003", "RECIPIENT_NOT_IDENTITY": "0003", "UNBOUND": "0004", "DEBOUND": "0005", "TARGET_TYPE": "0006",
    "CYCLE": "0006", "INCONSISTENT": "0007", "COUNTER": "0009",
}


def answers(alice, bob, mallory, broken):
    people = [f"gidc_{me.name}" for me in (alice, bob, mallory)]
    library = {f"gidc_{me.name}": me.gidc for me in (alice, bob, mallory)}
    vectors = []

    def vector(name, role, rule, data, strength="must", **more):
        nak = NAK.get(rule, "0001") if role == "publish" and rule else None
        expect = {"verdict": "reject" if rule else "accept", "strength": strength}
        if rule:
            expect |= {"rule": rule, "nak": nak}
        given = {"input_str": data} if role == "ghid-str" else {"input_b64": b64(data)}
        kind = data[:4].decode("ascii", "replace") if role in ("publish", "receive") else role
        vectors.append({"id": name, "object": kind, "role": role, **given, **more, "expect": expect, "isolated": True})

    def publish(name, rule, data, before=(), known=people, **more):
        vector(name, "publish", rule, data, preload=[*known, *before], **more)

    # What one object alone shows.
    for it in broken:
        name, stage, rule, data = it["name"], it["stage"], it["rule"], base64.b64decode(it["input"])
        if stage == "ghid":
            vector(name, "ghid-bytes", rule, data)
        elif stage == "ghid-text":
            vector(name, "ghid-str", rule, data.decode())
        elif stage == "secret":
            vector(name, "secret", "SECRET", data)
        elif stage == "parse" or rule in ("SIGNATURE", "OUTER"):
            publish(name, rule, data)
        elif rule == "AUTHOR_UNKNOWN":
            publish(name, rule, data, known=["gidc_bob"])
        elif stage == "receive":
            known = [f"gidc_{who}" for who in it["known"]]
            vector(name, "receive", rule, data, recipient=it["recipient"], known=known)

    # What depends on what is stored.
    key, seed_, salt = seed("key"), seed("seed", 16), seed("salt")
    container = geoc(alice, key, seed_, salt, b"attack at dawn")
    target, birth, other = container[-129:-64], ghid(b"birth target"), ghid(b"other target")
    own = lambda data: data[-129:-64]
    dynamic = dynamic_ghid(alice.ghid, birth)
    hold = binding(b"GOBS", alice, target)
    gobs = binding(b"GOBS", alice, other)
    ask = garq(alice, bob, letter(alice.ghid, b"AK", other + bytes(4)), seed("ephemeral"))
    frames = [gobd(alice, 0, [birth])] + [gobd(alice, n, [ghid(b"frame %d" % n), birth]) for n in (1, 2)]
    fork = gobd(alice, 1, [other, birth])
    outer_frame = gobd(alice, 0, [dynamic])
    outer_dynamic = dynamic_ghid(alice.ghid, dynamic)
    x_gobs, x_dynamic, x_ask = (binding(b"GDXX", me, what) for me, what in [(alice, own(gobs)), (alice, dynamic), (bob, own(ask))])
    xx_gobs = binding(b"GDXX", alice, own(x_gobs))
    foreign = binding(b"GDXX", mallory, own(gobs))
    hold_dynamic = binding(b"GOBS", bob, dynamic)
    by_container = binding(b"GOBS", alice, other, binder=target)
    library |= {
        "hold": hold, "container": container, "gobs": gobs, "ask": ask, "frame0": frames[0], "frame1": frames[1], "frame2": frames[2],
        "outer": outer_frame, "x_gobs": x_gobs, "xx_gobs": xx_gobs, "x_dynamic": x_dynamic, "x_ask": x_ask, "foreign": foreign,
        "hold_dynamic": hold_dynamic,
    }
    vector("ghid-bytes-ok", "ghid-bytes", None, other)
    vector("ghid-str-ok", "ghid-str", None, base64.urlsafe_b64encode(other).decode())
    vector("secret-ok", "secret", None, secret_bytes(key, seed_))
    vector("receive-ok", "receive", None, ask, recipient="bob", known=people)
    vector("gidc-ok", "publish", None, alice.gidc, preload=[])
    publish("geoc-ok", None, container, ["hold"])
    publish("geoc-unbound", "UNBOUND", container)
    publish("geoc-target-of-history-only", "UNBOUND", container, known=[*people, "frame_over_container"])
    library["frame_over_container"] = gobd(alice, 3, [other, target, birth])
    publish("geoc-again-is-acked", None, container, ["hold", "container"])

    publish("gobs-ok", None, gobs)
    publish("gobs-binder-is-a-container", "AUTHOR_NOT_IDENTITY", by_container, ["hold", "container"])
    publish("gobs-replay-after-debinding", "DEBOUND", gobs, ["gobs", "x_gobs"])
    publish("gobs-debinding-came-first", "DEBOUND", gobs, ["x_gobs"])
    publish("gobs-foreign-debinding-came-first", None, gobs, ["foreign"])
    publish("gobs-rebind-after-debinding-debound", None, gobs, ["gobs", "x_gobs", "xx_gobs"])
    for name, what, before in [
        ("identity", bob.ghid, []), ("static-binding", own(gobs), ["gobs"]), ("debinding", own(x_gobs), ["x_gobs"]),
        ("request", own(ask), ["ask"]), ("frame", own(frames[0]), ["frame0"]),
    ]:
        publish(f"gobs-target-is-{name}", "TARGET_TYPE", binding(b"GOBS", alice, what), before)
        publish(f"gobd-target-is-{name}", "TARGET_TYPE", gobd(bob, 1, [what, birth]), before)
    for name, what, before in [("container", target, ["hold", "container"]), ("dynamic", dynamic, ["frame0"]), ("unknown", ghid(b"?"), [])]:
        publish(f"gobs-target-is-{name}", None, binding(b"GOBS", bob, what), before)
        publish(f"gobd-target-is-{name}", None, gobd(bob, 1, [what, birth]), before)

    publish("gobd-first-frame-ok", None, frames[0])
    publish("gobd-next-frame-ok", None, frames[1], ["frame0"])
    publish("gobd-mid-life-frame-of-unknown-binding", None, frames[2])
    publish("gobd-same-frame-again-is-acked", None, frames[1], ["frame0", "frame1"])
    publish("gobd-equal-counter-is-a-fork", None, fork, ["frame0", "frame1"], strength="choice")
    publish("gobd-counter-jumps-to-the-last", None, gobd(alice, 2**64 - 1, [other, birth]), ["frame0"])
    publish("gobd-counter-regress", "COUNTER", frames[0], ["frame0", "frame1"])
    publish("gobd-counter-regress-to-1", "COUNTER", frames[1], ["frame0", "frame2"])
    publish("gobd-older-frame-after-deletion", "COUNTER", frames[1], ["frame2", "x_dynamic"])
    publish("gobd-frame-after-debinding", "DEBOUND", frames[1], ["frame0", "x_dynamic"])
    publish("gobd-debinding-came-first", "DEBOUND", frames[0], ["x_dynamic"])
    publish("gobd-frame-after-debinding-but-held", None, frames[1], ["frame0", "hold_dynamic", "x_dynamic"], strength="choice")
    publish("gobd-cycle-self", "CYCLE", gobd(alice, 1, [dynamic, birth]), ["frame0"])
    publish("gobd-cycle-two", "CYCLE", gobd(alice, 1, [outer_dynamic, birth]), ["frame0", "outer"])

    publish("gdxx-ok", None, x_gobs, ["gobs"])
    publish("gdxx-of-a-dynamic-address", None, x_dynamic, ["frame0"])
    publish("gdxx-unknown-target", None, binding(b"GDXX", alice, ghid(b"?")), strength="choice")
    publish("gdxx-debinder-unknown", "AUTHOR_UNKNOWN", x_gobs, known=["gidc_bob"])
    publish("gdxx-other-debinder-of-gobs", "INCONSISTENT", foreign, ["gobs"])
    publish("gdxx-other-debinder-of-gobd", "INCONSISTENT", binding(b"GDXX", mallory, dynamic), ["frame0"])
    publish("gdxx-other-debinder-of-gdxx", "INCONSISTENT", binding(b"GDXX", mallory, own(x_gobs)), ["gobs", "x_gobs"])
    publish("gdxx-request-by-its-author", "INCONSISTENT", binding(b"GDXX", alice, own(ask)), ["ask"])
    publish("gdxx-request-by-its-recipient", None, x_ask, ["ask"])
    for name, what, before in [("container", target, ["hold", "container"]), ("identity", alice.ghid, []), ("frame", own(frames[0]), ["frame0"])]:
        publish(f"gdxx-target-is-{name}", "TARGET_TYPE", binding(b"GDXX", alice, what), before)
    publish("gdxx-replay-after-being-debound", "DEBOUND", x_gobs, ["gobs", "x_gobs", "xx_gobs"])

    publish("garq-ok", None, ask)
    publish("garq-again-is-acked", None, ask, ["ask"])
    publish("garq-recipient-unknown", "RECIPIENT_UNKNOWN", ask, known=["gidc_alice"])
    to_container = garq(alice, bob, letter(alice.ghid, b"AK", other + bytes(4)), seed("e"), recipient_field=target)
    publish("garq-recipient-is-a-container", "RECIPIENT_NOT_IDENTITY", to_container, ["hold", "container"])
    publish("garq-replay-after-debinding", "DEBOUND", ask, ["ask", "x_ask"])

    # Suite 1 under the name of somebody of suite 3.
    one = lambda magic, body, tail: addressed(head(magic, suite=1) + body) + bytes(tail)
    publish("garq-of-suite-1", "SUITE_MISMATCH", one(b"GARQ", bob.ghid + bytes(512), 64))
    publish("gobs-of-suite-1", "SUITE_MISMATCH", one(b"GOBS", alice.ghid + other, 512))
    publish("gdxx-of-suite-1", "SUITE_MISMATCH", one(b"GDXX", alice.ghid + other, 512))
    publish("geoc-of-suite-1", "SUITE_MISMATCH", one(b"GEOC", alice.ghid + struct.pack(">Q", 3) + b"abc", 512))
    publish("gobd-of-suite-1", "SUITE_MISMATCH", one(b"GOBD", alice.ghid + struct.pack(">QH", 1, 130) + other + birth + dynamic, 512))

    names = [it["id"] for it in vectors]
    assert len(names) == len(set(names)), "names are unique"
    return {
        "format": "golix-vectors/1",
        "encoding": "lowercase hex unless the key ends in _b64 (standard base64 with padding)",
        "made_with": {"generate.py": "negative"},
        "set": "negative",
        "identities": {
            me.name: {"name": me.name, "suite": 3, **dict(zip(("sign", "encrypt", "exchange"), (part.hex() for part in me.seeds)))}
            for me in (alice, bob, mallory)
        },
        "library": {name: b64(data) for name, data in library.items()},
        "vectors": vectors,
    }


# --- just enough of edwards25519 to add a torsion point to a key


def decompress(data, d):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P:
        return None
    return (P - x if x & 1 != sign else x, y)


def torsioned(key, torsion, d):
    x, y = add(decompress(key, d), torsion, d)
    return (y | (x & 1) << 255).to_bytes(32, "little")


def add(one, two, d):
    (x1, y1), (x2, y2) = one, two
    t = d * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P)


def times(n, point, d):
    out = (0, 1)
    while n:
        if n & 1:
            out = add(out, point, d)
        point, n = add(point, point, d), n >> 1
    return out


def spelled_twice(d):
    """The y below 19 of points on the curve: y + p spells them again. None is of prime order."""
    points = [(y, decompress(y.to_bytes(32, "little"), d)) for y in range(2, 19)]
    points = [(y, point) for y, point in points if point]
    assert all(times(L, point, d) != (0, 1) for _, point in points)
    return [y for y, _ in points]


def small_r(me, message):
    a = bytearray(sha512(me.seeds[0])[:32])
    a[0] &= 248
    a[31] = a[31] & 127 | 64
    r = (1).to_bytes(32, "little")
    k = int.from_bytes(sha512(r + me.publics[0] + message), "little")
    return r + (k * int.from_bytes(a, "little") % L).to_bytes(32, "little")


def not_on_curve(d):
    y = 2
    while decompress(y.to_bytes(32, "little"), d):
        y += 1
    return y.to_bytes(32, "little")


if __name__ == "__main__":
    main()
