"""Configurations of strategies by the number of sampled members."""

from __future__ import annotations

from evoconn_cli.config.schema import EcConfig, EsConfig


def ec_config(num_members: int, **keys) -> EcConfig:
    return EcConfig(name="ec", population=num_members + 4, evaluation_copies=4, **keys)


def es_config(num_members: int, **keys) -> EsConfig:
    return EsConfig(name="es", population=num_members + 4, evaluation_copies=4, **keys)
