"""What one call may ask of each email."""

import pytest

from mailserver.jmap.methods.email import plan
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.headers import MAX_PROPERTIES, check_count


def test_header_properties_have_a_bound() -> None:
    names = tuple(f"header:x-{number}:asText" for number in range(MAX_PROPERTIES))
    assert len(plan(("subject", *names)).fixed) == MAX_PROPERTIES + 2
    for many in ((*names, "header:one-more"), names * 2):
        with pytest.raises(MethodError) as error:
            plan(many)
        assert error.value.kind == "requestTooLarge"
    check_count(("subject", "preview") * MAX_PROPERTIES)
