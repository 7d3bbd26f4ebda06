"""The emulator's instructions against their definitions, on random operands with all corners among them."""

import pytest
from ptxemu_cases import GROUPS, check, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("group", GROUPS)
def test_instructions_give_what_they_should(group):
    check(list(GROUPS[group]()), seed=0)
