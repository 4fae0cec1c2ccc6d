'''`hgx.Ghid`, as documented, and the addresses a daemon hands out.'''
import binascii
import unittest

import hgx
from hgx import Ghid

from common import ALICE_FINGERPRINT, HgxTest, main

ZEROS = 'AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='
BOB = 'AR_2cdgIjlHpaqGa7K8CmvSksaKMIi_scApddFgHT8dZy_vW3YgoUV5T4iVvlzE2V8qsje19K33KZhyI2i0FwAk='


class GhidTest(unittest.TestCase):
    def test_parts(self):
        ghid = Ghid(1, bytes(64))
        self.assertEqual(ghid.algo, 1)
        self.assertEqual(ghid.address, bytes(64))
        self.assertEqual(repr(ghid), 'Ghid(algo=1, address={!r})'.format(bytes(64)))

    def test_invalid_algo_and_length_are_value_errors(self):
        with self.assertRaises(ValueError):
            Ghid(2, bytes(64))
        with self.assertRaises(ValueError):
            Ghid(1, bytes(63))
        with self.assertRaises(ValueError):
            Ghid(1, bytes(65))

    def test_equality(self):
        self.assertEqual(Ghid(1, bytes(64)), Ghid(1, bytes(64)))
        self.assertFalse(Ghid(1, bytes(64)) == Ghid(1, b'\1' * 64))
        with self.assertRaises(TypeError):
            Ghid(1, bytes(64)) == 7

    def test_hashable(self):
        names = {Ghid(1, bytes(64)): 'zeros'}
        self.assertEqual(names[Ghid(1, bytes(64))], 'zeros')

    def test_bytes(self):
        ghid = Ghid(1, bytes(range(64)))
        self.assertEqual(bytes(ghid), b'\1' + bytes(range(64)))
        self.assertEqual(Ghid.from_bytes(bytes(ghid)), ghid)

    def test_text(self):
        self.assertEqual(Ghid(1, bytes(64)).as_str(), ZEROS)
        self.assertEqual(Ghid.from_str(ZEROS), Ghid(1, bytes(64)))
        self.assertEqual(Ghid.from_str(BOB).as_str(), BOB)
        # The documentation shows 'AQAAA...'; the package leaves out the first character.
        self.assertEqual(str(Ghid(1, bytes(64))), "Ghid('QAAAA...')")

    def test_malformed_text(self):
        for text in ('', 'A', 'AQAAA', ZEROS[:-4], 'AAAA' + ZEROS, 'Ag' + ZEROS[2:]):
            with self.assertRaises((ValueError, binascii.Error)):
                Ghid.from_str(text)

    def test_pseudorandom(self):
        ghid = Ghid.pseudorandom(1)
        self.assertEqual(ghid.algo, 1)
        self.assertEqual(len(ghid.address), 64)
        self.assertNotEqual(bytes(ghid), bytes(Ghid.pseudorandom(1)))


class DaemonGhidTest(HgxTest):
    def test_fingerprint_is_what_the_daemon_printed(self):
        link = self.link()
        self.assertIsInstance(link.whoami, Ghid)
        self.assertEqual(link.whoami.as_str(), ALICE_FINGERPRINT)
        self.assertEqual(Ghid.from_str(link.whoami.as_str()), link.whoami)

    def test_object_addresses_survive_text(self):
        link = self.link()
        obj = self.new(link, hgx.JsonProxy, 'Hello World!')
        text = obj.hgx_ghid.as_str()
        other = self.link()
        again = self.get(other, Ghid.from_str(text), hgx.JsonProxy)
        self.assertEqual(again.hgx_state, 'Hello World!')


if __name__ == '__main__':
    main()
