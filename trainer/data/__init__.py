"""Training and validation data: made on this machine (`docs`, `synth`) or downloaded (`fineweb`).

`prepare` takes a corpus name and a folder and gives a `Manifest`; `load` gives the manifest of a folder that
is ready; `validation_documents` gives the validation text to the trusted side.
Run alone: `python -m trainer.data docs|synth|fineweb --out DIR`.
"""

from trainer.data.manifest import Manifest, load, validation_documents
from trainer.data.prepare import prepare

__all__ = ["Manifest", "load", "prepare", "validation_documents"]
