"""Which instruments are in a mix, how loud each is, when it plays and how it sounds. The one module that is not exported from a notebook: it only says where the public names live, and loads them when they are asked for."""
__version__ = "0.1.0"

_HOME = dict(analyze="analysis", Analyzer="analysis", Analysis="analysis", load_backbone="backbones", prepare_corpus="corpus", load_dataset="datasets", describe="descriptors", taxonomy="instruments")
__all__ = sorted(_HOME)

def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module 'instrument_mtl' has no attribute {name!r}; public names: {', '.join(__all__)}")
    from importlib import import_module
    return getattr(import_module(f".{_HOME[name]}", __name__), name)

def __dir__(): return __all__ + ["__version__"]
