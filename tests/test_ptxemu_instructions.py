"""The emulator's instructions against their definitions, on random operands with all corners among them."""

import ptxemu
import pytest
from ptxemu_cases import GROUPS, check

pytestmark = pytest.mark.skipif(ptxemu.unavailable() is not None, reason=str(ptxemu.unavailable()))


@pytest.mark.parametrize("group", GROUPS)
def test_instructions_give_what_they_should(group):
    check(list(GROUPS[group]()), seed=0)
