"""A tuner that a trunk cannot carry says why, and what to use instead."""

import pytest

from mmsigma.errors import InvalidSettingError
from tests.tiny import REFUSED, TRUNKS, backbone


@pytest.mark.parametrize(('tuner', 'trunk'), REFUSED)
def test_refused_with_a_reason(tuner: str, trunk: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        backbone(trunk, tuner)
    message = str(caught.value)
    assert 'Use ' in message
    if tuner == 'SSF':
        assert 'qkv of this trunk' in message and 'without calling it' in message
        return
    assert message.startswith('Block 0 of this trunk') or message.startswith('Block 1 of')
    blocks = backbone(trunk, 'Frozen').trunk.blocks()
    assert type(blocks[0].module).__name__ in message
    reason = 'further tokens' if tuner == 'VPT' else 'norm'
    assert len(TRUNKS[trunk].positions) == 1 or reason in message
