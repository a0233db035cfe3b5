"""Image quality: is a photo blurred, covered, over- or underexposed (SPEC 4.4)?

``reader.py`` is what others use; it needs the extra ``quality`` (or ``quality-gpu``). A frozen
frame needs no model: the same SHA-256 again is found by ``connectors/cameras/frame.py``. How the
model was made, of what, and how well it does stands in ``MODEL_CARD.md``; ``training/`` makes it
anew.
"""
