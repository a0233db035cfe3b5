"""Words by which a device's own description tells a camera from what else is on a network."""

from __future__ import annotations

import re
from typing import Final

_MAKERS: Final = (
    "acti|amcrest|annke|arecont|avigilon|axis|basler|dahua|ezviz|foscam|grandstream|hanwha|"
    "hikvision|hipcam|imou|intelbras|lorex|milesight|mobotix|onvif|reolink|sunell|swann|tiandy|"
    "uniview|vivotek|wansview|wisenet"
)
"""Makers of hardly anything but cameras and recorders (Panasonic, Sony, Bosch make all sorts)."""
_CAMERA: Final = re.compile(
    rf"\b(cam|cams|camera|cameras|ip-?cam\w*|ipc|webcam|net-?cam|cctv|surveillance|dome|bullet|"
    rf"{_MAKERS})\b|camera|webcam|ipcam|\bds-2[a-z]{{2}}|\bipc-",
    re.IGNORECASE,
)
_RECORDER: Final = re.compile(
    r"\b(nvr|dvr|xvr|hvr|hcvr|video recorder|recorder)\b|\bds-[789]\d|\bnvr\d|\bxvr\d|dhi?-[nx]vr",
    re.IGNORECASE,
)
_NEITHER: Final = re.compile(
    r"\b(printer|laserjet|officejet|router|nas|playlist|music|player|dlna|television|tv)\b",
    re.IGNORECASE,
)


def looks_like_camera(words: str) -> bool:
    """Say whether these words of a device's own are those of a camera."""
    return bool(_CAMERA.search(words)) and not _NEITHER.search(words)


def looks_like_recorder(words: str) -> bool:
    """Say whether these words are those of a recorder of cameras."""
    return bool(_RECORDER.search(words)) and not _NEITHER.search(words)
