"""evoconn: recurrent spiking neural networks trained by evolving their connectivity."""

__version__ = "0.1.0"
