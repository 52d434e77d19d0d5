"""The precision of products, read off lines as compilers write them."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.products import precisions

FUSED = """
%computation (a: f32[256,64], b: f32[64,512]) -> f32[256,512] {
  %a = f32[256,64]{1,0} parameter(0)
  %b = f32[64,512]{1,0} parameter(1)
  ROOT %dot.8 = f32[256,512]{1,0} dot(%a, %b), lhs_contracting_dims={1}, MARK metadata={op_name="jit(f)/dot_general"}
}
"""
LIBRARY = (
    """
  %x = TYPE[256,64]{1,0} parameter(0)
  %w = TYPE[64,512]{1,0} parameter(1)
  %custom-call.7 = (f32[256,512]{1,0}, s8[4194304]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", """
    'backend_config={"gemm_backend_config":{"precision_config":{"operand_precision":["ASKED","ASKED"],'
    '"algorithm":"ALG_CHOSEN"},"beta":0}}'
)
TPU = """
  %convolution.3 = f32[256,10,512]{2,0,1:T(8,128)} convolution(%fusion.93, %fusion.95), dim_labels=bf0_0io->b0f, MARK
"""
HEAD = """
  %param_0.1 = f32[10,256,512]{2,1,0} parameter(0)
  %param_1.1 = f32[10,512]{1,0} parameter(1)
  FIRST
  SECOND
  %broadcast.2 = TYPE[10,256,512]{2,1,0} broadcast(%second), dimensions={0,2}
  %multiply.7 = TYPE[10,256,512]{2,1,0} multiply(%first, %broadcast.2)
  %convert.2 = f32[10,256,512]{2,1,0} convert(%multiply.7)
  ROOT %reduce.8 = f32[10,256]{1,0} reduce(%convert.2, %zero), dimensions={2}, metadata={op_name="jit(f)/dot_general"}
"""


def filled(text, **words):
    for name, word in words.items():
        text = text.replace(name, word)
    return text


def head(element, first, second):
    return filled(HEAD, FIRST=f"%first = {first}(%param_0.1)", SECOND=f"%second = {second}(%param_1.1)", TYPE=element)


BITCAST = "f32[10,256,512]{2,1,0} bitcast", "f32[10,512]{1,0} bitcast"
MASKED = "u32[10,256,512]{2,1,0} and", "u32[10,512]{1,0} and"
ROUNDED = "bf16[10,256,512]{2,1,0} convert", "bf16[10,512]{1,0} convert"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (filled(FUSED, MARK=""), "default"),
        (filled(FUSED, MARK="operand_precision={highest,highest},"), "highest"),
        (filled(FUSED, MARK="operand_precision={high,high},"), "high"),
        (filled(FUSED, MARK="algorithm=dot_tf32_tf32_f32,"), "tf32_tf32_f32"),
        (filled(FUSED, MARK="algorithm=dot_bf16_bf16_f32_x3,"), "bf16_bf16_f32_x3"),
        (filled(LIBRARY, TYPE="f32", ASKED="DEFAULT", ALG_CHOSEN="ALG_UNSET"), "default"),
        (filled(LIBRARY, TYPE="f32", ASKED="HIGHEST", ALG_CHOSEN="ALG_UNSET"), "highest"),
        (filled(LIBRARY, TYPE="f32", ASKED="DEFAULT", ALG_CHOSEN="ALG_DOT_TF32_TF32_F32"), "tf32_tf32_f32"),
        (filled(LIBRARY, TYPE="bf16", ASKED="DEFAULT", ALG_CHOSEN="ALG_UNSET"), "bf16_bf16_f32"),
        (filled(TPU, MARK=""), "default"),
        (filled(TPU, MARK="operand_precision={high,high},"), "high"),
        (head("f32", *BITCAST), "elementwise_f32"),
        (head("f32", *MASKED), "elementwise_tf32"),
        (head("bf16", *ROUNDED), "elementwise_bf16"),
    ],
)
def test_precision_of_one_product(text, expected):
    assert precisions(text) == {expected: 1}


def test_sums_that_are_no_products_do_not_count():
    """A norm, and the sum of the parts of a product that was cut along its contraction."""
    norm = head("f32", *BITCAST).replace("dot_general", "reduce_sum")
    parts = """
  %param_0.144 = f32[10,256,65]{2,1,0} parameter(0)
  ROOT %reduce.5 = f32[256,65]{1,0} reduce(%param_0.144, %zero), dimensions={0}, metadata={op_name="jit(f)/dot_general"}
"""
    assert precisions(norm + parts) == {}


def test_of_a_program_that_is_compiled_here():
    function = lambda x: jnp.tanh(x @ x.T) @ x
    with jax.default_matmul_precision("highest"):
        program = jax.jit(function).lower(jnp.ones((300, 200))).compile()
    assert precisions(program.as_text()) == {"highest": 2}
