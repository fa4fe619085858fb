"""Stands in for Brax's renderer, which needs a C++ compiler from Python 3.12 on; evoconn draws with MuJoCo."""

raise ImportError(
    "this is evoconn's stand-in for pytinyrenderer. For the real one, which needs a C++ compiler: "
    "pip install --force-reinstall pytinyrenderer==0.0.14"
)
