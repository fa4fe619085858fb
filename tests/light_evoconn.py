"""The command line with the light engine: `python light_evoconn.py train ...`."""

from light_engine import make_light_engine

from evoconn_cli.app import main
from evoconn_cli.runs import loop

if __name__ == "__main__":
    loop.build_engine = make_light_engine
    main()
