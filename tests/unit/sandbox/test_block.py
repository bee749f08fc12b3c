import subprocess
import sys

import pytest

from gemma_operator.errors import SandboxError
from gemma_operator.sandbox import block


def test_two_claims_never_get_the_same_block():
    one, two = block.claim(first=251, last=254), block.claim(first=251, last=254)
    try:
        assert one.block != two.block
    finally:
        one.release()
        two.release()


def test_a_released_block_is_free_again():
    first = block.claim(first=251, last=254)
    first.release()
    second = block.claim(first=first.block.number, last=first.block.number)
    second.release()
    assert second.block == first.block


def test_a_block_stays_taken_while_a_child_lives_and_is_free_when_it_is_killed():
    mine = block.claim(first=251, last=254)
    number = mine.block.number
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    mine.release()
    try:
        with pytest.raises(SandboxError, match="is taken"):
            block.claim(first=number, last=number)
    finally:
        child.kill()
        child.communicate()
    block.claim(first=number, last=number).release()


def test_the_error_names_the_remedy_when_all_are_taken():
    mine = block.claim(first=251, last=254)
    try:
        with pytest.raises(SandboxError, match=r"sandbox down --name"):
            block.claim(first=mine.block.number, last=mine.block.number)
    finally:
        mine.release()


def test_pods_and_control_plane_share_no_address():
    taken = block.Block(10)
    assert taken.host == "127.10.0.1"
    assert taken.pods == "127.10.128.0/17"
