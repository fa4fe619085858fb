"""The count of kernels in a compiled program; compiling one for a GPU takes a plugin that tests do not have."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from benchmarks.gpu_kernels import count_kernels

PROGRAM = """HloModule jit_f, is_scheduled=true

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %s = f32[4]{0} sine(%p)
}

%body.1 (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %a = f32[4]{0} get-tuple-element(%t), index=1
  %f = f32[4]{0} fusion(%a), kind=kLoop, calls=%fused
  %c = f32[4]{0} copy(%f)
  %i = s32[] get-tuple-element(%t), index=0
  ROOT %r = (s32[], f32[4]{0}) tuple(%i, %c)
}

%inner (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  ROOT %g = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]{0}) tuple(%zero, %x)
  %w = (s32[], f32[4]{0}) while(%start), condition=%cond, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  %y = f32[4]{0} get-tuple-element(%w), index=1
  %k = f32[4]{0} custom-call(%y), custom_call_target="kernel"
  ROOT %z = f32[4]{0} call(%k), to_apply=%inner
}
"""


def test_loops_count_as_often_as_they_turn_and_fusions_as_one():
    assert count_kernels(PROGRAM) == 5 * 2 + 1 + 1


def test_a_program_as_jax_prints_it_is_read():
    program = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y) @ y, x)).lower(jnp.ones((9, 9)))
    assert count_kernels(program.compile().as_text()) >= 3


@pytest.mark.parametrize("text", ["", "HloModule empty"])
def test_what_is_no_program_is_refused(text):
    with pytest.raises(ValueError, match="unpack"):
        count_kernels(text)
