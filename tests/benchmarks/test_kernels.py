"""What `benchmarks.kernels` counts, on programs made up here; and a real one, where jax's plugins are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import needs

from benchmarks import gpu_program, hlo, kernels
from benchmarks.deviceless import Request
from benchmarks.gpu_program import Launch
from benchmarks.hlo import Product
from trqam_jax.errors import UserError
from trqam_jax.types import Spec

ROOT = Path(__file__).parents[2]
BODY = "jit(run_updates)/while/body"
HLO = f"""\
HloModule jit_run_updates, is_scheduled=true

%product (parameter_0: f32[4,256,128], parameter_1: f32[4,128,512]) -> f32[4,256,512] {{
  %parameter_0 = f32[4,256,128]{{2,1,0}} parameter(0)
  %parameter_1 = f32[4,128,512]{{2,1,0}} parameter(1)
  ROOT %dot = f32[4,256,512]{{2,1,0}} dot(%parameter_0, %parameter_1), lhs_batch_dims={{0}}, lhs_contracting_dims={{2}}, rhs_batch_dims={{0}}, rhs_contracting_dims={{1}}, algorithm=dot_bf16_bf16_f32_x3
}}

%rows (data: f32[20000,40], places: s32[256], whole: f32[256,40]) -> f32[256,40] {{
  %data = f32[20000,40]{{1,0}} parameter(0)
  %places = s32[256]{{0}} parameter(1)
  %whole = f32[256,40]{{1,0}} parameter(2)
  %flat = f32[20000,40]{{1,0}} bitcast(%data)
  %gather = f32[256,40]{{1,0}} gather(%flat, %places), offset_dims={{1}}
  ROOT %sum = f32[256,40]{{1,0}} add(%gather, %whole), metadata={{op_name="{BODY}/vmap()/add"}}
}}

%adam (old: f32[512]) -> f32[512] {{
  %old = f32[512]{{0}} parameter(0)
  %root = f32[512]{{0}} sqrt(%old), metadata={{op_name="{BODY}/vmap()/sqrt"}}
  ROOT %kept = f32[512]{{0}} select(%root, %root, %old), metadata={{op_name="{BODY}/vmap(jit(_where))/select_n"}}
}}

%gelu (sums: f32[4,256,512]) -> f32[256,512] {{
  %sums = f32[4,256,512]{{2,1,0}} parameter(0)
  %joined = f32[256,512]{{1,0}} reduce(%sums), metadata={{op_name="{BODY}/jvp()/closed_call/Velocity/Dense_1/dot_general"}}
  ROOT %tanh = f32[256,512]{{1,0}} tanh(%joined)
}}

%squares (gradient: f32[512]) -> f32[] {{
  %gradient = f32[512]{{0}} parameter(0)
  %square = f32[512]{{0}} multiply(%gradient, %gradient), metadata={{op_name="{BODY}/vmap()/square"}}
  ROOT %norm = f32[] reduce(%square), metadata={{op_name="{BODY}/vmap()/reduce_sum"}}
}}

%loss (error: f32[256]) -> f32[] {{
  %error = f32[256]{{0}} parameter(0)
  ROOT %mean = f32[] reduce(%error), metadata={{op_name="{BODY}/jvp()/reduce_sum"}}
}}

%bits (step: s32[]) -> u32[2] {{
  %step = s32[] parameter(0)
  ROOT %key = u32[2]{{0}} xor(%step, %step), metadata={{op_name="{BODY}/jit(_threefry_fold_in)/guarded_update/xor"}}
}}

%norms (x: f32[256,512]) -> f32[256,512] {{
  %x = f32[256,512]{{1,0}} parameter(0)
  ROOT %scaled = f32[256,512]{{1,0}} multiply(%x, %x), metadata={{op_name="{BODY}/jvp(vmap(_SingleCritic))/LayerNorm_0/mul"}}
}}

%turn (y: f32[256,512]) -> f32[512,256] {{
  %y = f32[256,512]{{1,0}} parameter(0)
  ROOT %turned = f32[512,256]{{1,0}} transpose(%y), dimensions={{1,0}}
}}

%clip (z: f32[256]) -> f32[256] {{
  %z = f32[256]{{0}} parameter(0)
  ROOT %clipped = f32[256]{{0}} maximum(%z, %z), metadata={{op_name="{BODY}/jvp()/max"}}
}}

ENTRY %main (a: f32[4,256,128]) -> f32[] {{
  %a = f32[4,256,128]{{2,1,0}} parameter(0)
  %b = f32[4,128,512]{{2,1,0}} parameter(1)
  %data.1 = f32[20000,40]{{1,0}} parameter(2)
  %places.1 = s32[256]{{0}} parameter(3)
  %whole.1 = f32[256,40]{{1,0}} parameter(4)
  %vector = f32[512]{{0}} parameter(5)
  %steps = s32[] parameter(6)
  %gemm.1 = f32[4,256,512]{{2,1,0}} fusion(%a, %b), kind=kCustom, calls=%product
  %cublas.2 = (f32[256,512]{{1,0}}, s8[4194304]{{0}}) custom-call(%whole.1, %weights), custom_call_target="__cublas$lt$matmul", backend_config={{"gemm_backend_config":{{"dot_dimension_numbers":{{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]}},"precision_config":{{"operand_precision":["HIGHEST","HIGHEST"],"algorithm":"ALG_UNSET"}}}}}}
  %weights = f32[40,512]{{1,0}} parameter(7)
  %gather.3 = f32[256,40]{{1,0}} fusion(%data.1, %places.1, %whole.1), kind=kLoop, calls=%rows
  %state.4 = f32[512]{{0}} fusion(%vector), kind=kLoop, calls=%adam
  %activation.5 = f32[256,512]{{1,0}} fusion(%gemm.1), kind=kInput, calls=%gelu
  %gradient_norm.6 = f32[] fusion(%vector), kind=kInput, calls=%squares
  %reduction.7 = f32[] fusion(%vector), kind=kInput, calls=%loss
  %random.8 = u32[2]{{0}} fusion(%steps), kind=kLoop, calls=%bits
  %layer_norm.9 = f32[256,512]{{1,0}} fusion(%activation.5), kind=kLoop, calls=%norms
  %copy.10 = f32[512,256]{{1,0}} fusion(%activation.5), kind=kLoop, calls=%turn
  %other.11 = f32[256]{{0}} fusion(%vector), kind=kLoop, calls=%clip
  %while.1 = (s32[], /*index=1*/f32[256,512]{{1,0}}) while(%state.4), condition=%c, body=%b, metadata={{op_name="{BODY}"}}
  ROOT %while.2 = (s32[]) while(%state.4), condition=%c, body=%b, backend_config={{"known_trip_count":{{"n":"10"}}}}
}}
"""  # noqa: E501  (as XLA writes it)
LISTING = """\
001: kCopy  [source       | next=002 (1)] kCopy
002: kWhile [prev=001 (1) | sink        ]
condition:
    003: kCustomKernel [source | sink] other_11 grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
  body:
    000: kCommandBuffer [source       | next=129 (1)]
        004: kCustomKernel [source         | next=005 (1)] random_8 grid: [1, 1, 1] threads: [1, 1, 1]
        005: kCustomKernel [prev=004 (1)   | next=007 (2)] gemm_1 grid: [4, 8, 2] threads: [64, 1, 1]
    006: kWhile         [prev=000 (1) | next=000 (1)]
condition:
        007: kCustomKernel [source | sink] other_11 grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
      body:
        000: kCommandBuffer [source | sink]
            008: kCustomKernel [source        | next=132 (1)] gemm_1 grid: [4, 8, 2] threads: [64, 1, 1]
            009: kCustomKernel [source        | next=132 (1)] activation_5 grid: [1024, 1, 1] threads: [128, 1, 1]
            013: kCustomKernel [source        | next=132 (1)] random_8 grid: [1, 1, 1] threads: [128, 1, 1]
        010: kDynamicSliceFusion [prev=000 (1) | sink        ] params=1, results=1
            011: kCopy [source | sink] kCopy
    012: kCopy  [source       | next=002 (1)] kCopy
"""
CAPTURED = """\
000: kCommandBuffer [source       | next=129 (1)]
    002: kWhile [prev=001 (1) | sink        ]
condition:
        003: kCustomKernel [source | sink] other_11 grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
      body:
        000: kCommandBuffer [source       | next=129 (1)]
            004: kCustomKernel [source         | next=005 (1)] random_8 grid: [1, 1, 1] threads: [1, 1, 1]
"""
NAMES = {
    2: "while.1", 3: "other.11", 4: "random.8", 5: "gemm.1", 6: "while.2", 8: "gemm.1", 9: "activation.5",
    10: "copy.10", 13: "random.8",
}  # fmt: skip
TENSOR_CORES = ".visible .entry gemm_1(\n mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1}, {%r1};\n}"


@pytest.fixture
def program():
    return hlo.Program(HLO)


def test_bytes_of_shapes():
    assert hlo.nbytes("f32[4,256]{1,0}") == 4096
    assert hlo.nbytes("(s32[], /*index=1*/bf16[10,2]{1,0}, pred[3]{0}, f32[0]{0})") == 4 + 40 + 3
    with pytest.raises(KeyError, match="f7"):
        hlo.nbytes("f7[2]")


def test_products_of_a_fusion_and_of_a_library(program):
    assert program.products(program.instructions["gemm.1"]) == [Product(4, 256, 512, 128)]
    assert program.products(program.instructions["cublas.2"]) == [Product(1, 256, 512, 40)]
    assert program.products(program.instructions["state.4"]) == []
    assert Product(4, 256, 512, 128).flop == 2 * 4 * 256 * 512 * 128


def test_of_a_gathered_array_its_rows_alone_count(program):
    rows = 256 * 40 * 4
    assert program.touched("gather.3") == rows + rows + 256 * 4 + rows  # result, rows, places, and what is added
    assert program.touched("state.4") == 2 * 512 * 4
    assert program.touched("cublas.2") == 4 * (256 * 512 + 256 * 40 + 40 * 512)  # without its workspace


def test_lengths_of_loops(program):
    assert program.instructions["while.1"].trip_count is None
    assert program.instructions["while.2"].trip_count == 10


def test_classes(program):
    """Of the instructions that have the class in their name."""
    found = {name: gpu_program.classify(each, program) for name, each in program.instructions.items() if "." in name}
    expected = {name: name.partition(".")[0] for name in found if name.partition(".")[0] in gpu_program.CLASSES}
    assert found["cublas.2"] == "gemm"
    assert expected.items() <= found.items()
    assert set(expected.values()) == set(gpu_program.CLASSES)


def test_launches_of_an_update(program):
    made = gpu_program.launches(gpu_program.read_thunks(LISTING), NAMES, program)
    assert made.kernels == [
        Launch("other.11", "other_11", 1, 1, in_graph=False),  # of the condition, which no length replaces
        Launch("random.8", "random_8", 1, 1, in_graph=True),
        Launch("gemm.1", "gemm_1", 64, 1, in_graph=True),
        Launch("gemm.1", "gemm_1", 64, 10, in_graph=True),
        Launch("activation.5", "activation_5", 1024, 10, in_graph=True),
        Launch("random.8", "random_8", 1, 10, in_graph=True),
        Launch("copy.10", "params=1,", 0, 10, in_graph=False),
        Launch("kCopy", "kCopy", 0, 1, in_graph=False),
    ]
    assert (made.graphs, made.host_syncs, made.outside) == (11, 1, 1)


def test_a_dispatch_that_is_one_graph(program):
    made = gpu_program.launches(gpu_program.read_thunks(CAPTURED), NAMES, program)
    assert [launch.name for launch in made.kernels] == ["other.11", "random.8"]
    assert (made.graphs, made.host_syncs, made.outside) == (0, 0, 1)


@pytest.mark.parametrize(
    ("listing", "names", "message"),
    [
        (LISTING.replace("kDynamicSliceFusion", "kSurprise"), NAMES, "kSurprise"),
        (LISTING, {**NAMES, 6: "while.1"}, "whose length XLA does not know"),
        (CAPTURED + CAPTURED, NAMES, "2 loops"),
        ("what is this\n", NAMES, "what is this"),
    ],
)
def test_what_cannot_be_counted_is_an_error(program, listing, names, message):
    with pytest.raises(ValueError, match=message):
        gpu_program.launches(gpu_program.read_thunks(listing), names, program)


def test_precision_is_what_the_kernel_computes(program):
    product, library = program.instructions["gemm.1"], program.instructions["cublas.2"]
    assert gpu_program.precision(product, program, TENSOR_CORES) == "bf16x3"
    plain = hlo.Program(HLO.replace(", algorithm=dot_bf16_bf16_f32_x3", ""))
    assert gpu_program.precision(plain.instructions["gemm.1"], plain, TENSOR_CORES.replace("bf16", "tf32")) == "tf32"
    assert gpu_program.precision(plain.instructions["gemm.1"], plain, "fma.rn.f32 %f1, %f2") == "f32"
    assert gpu_program.precision(library, program, None) == "f32"
    with pytest.raises(ValueError, match=r"gemm\.1"):
        gpu_program.precision(product, program, None)


def test_an_account(program):
    codes = gpu_program.read_kernels([TENSOR_CORES])
    found = gpu_program.account(gpu_program.read_thunks(LISTING), NAMES, program, codes)
    expected = {"gemm": 11, "activation": 10, "copy": 11, "other": 1, "random": 11}
    assert found.classes == {name: expected.get(name, 0) for name in gpu_program.CLASSES}
    assert found.products == {(Product(4, 256, 512, 128), "bf16x3"): 11}
    assert (found.one_block, found.loose) == (12, 12)
    assert found.class_bytes["gemm"] == 11 * 4 * 4 * (256 * 128 + 128 * 512 + 256 * 512)
    columns = kernels.of_gpu(found)
    assert (columns["kernels"], columns["products"], columns["gemm_shapes"]) == (
        44,
        "bf16x3 11",
        "4x256x512x128 bf16x3 11",
    )


TPU = """\
ENTRY %main (a: f32[8,4]) -> f32[8,8] {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0)
  %one = f32[8,8]{1,0:T(8,128)S(1)} convolution(%a, %a), dim_labels=bf_io->bf
  %two = bf16[8,8]{1,0} convolution(%a, %a), dim_labels=bf_io->bf
  %three = f32[8,8]{1,0} convolution(%a, %a), dim_labels=bf_io->bf, operand_precision={highest,highest}
  %four = f32[8,8]{1,0} dot(%a, %a), lhs_contracting_dims={1}, algorithm=dot_tf32_tf32_f32
  ROOT %sums = s32[8,8]{1,0} convolution(%a, %a), dim_labels=bf_io->bf
}
"""


def test_precision_of_a_tpus_products():
    assert hlo.tpu_precision(TPU) == {"bf16": 2, "bf16x6": 1, "tf32_tf32_f32": 1}


def test_a_folder_without_xlas_files(tmp_path):
    with pytest.raises(ValueError, match=r"XLA left 0 files \*\.thunk_sequence"):
        gpu_program.read_folder(tmp_path)


def row(**values):
    return dict.fromkeys(kernels.FIELDS, "") | {"agent": "trqam", "replicas": "1", "kernels": "834", **values}


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"kernels": "820"}, []),  # within 2 %
        ({"kernels": "817"}, ["kernels"]),
        ({"kernels": "851"}, ["kernels"]),
        ({"host_syncs": "1"}, ["host_syncs"]),
        ({"products": "tf32 283"}, []),
        ({"products": "f32 282"}, ["products"]),
        ({"compile_seconds": "1000", "jax": "0.11"}, []),
        ({"error": "it does not compile"}, ["error"]),
        ({"replicas": "8"}, ["the row"]),
    ],
)
def test_differences(values, columns):
    before = [row(products="tf32 282")]
    now = [row(products="tf32 282") | values]
    found = kernels.differences(before, now, tolerance=0.02)
    assert [difference.column for difference in found] == columns


def test_a_table_has_a_line_for_each_agent():
    rows = [row(), row(agent="bc"), row(replicas="8", kernels="819"), row(agent="bc", replicas="8", error="no")]
    head, _, *lines = kernels.markdown(rows).splitlines()
    assert head == "| agent | replicas | kernels |"
    assert lines == ["| trqam | 1 / 8 | 834 / 819 |", "| bc | 1 / 8 | 834 / failed |"]


def test_rows_come_back_from_their_file(tmp_path):
    rows = [row(), row(replicas="8", products="tf32 282; f32 1")]
    kernels.write(tmp_path / "build" / "kernels.csv", rows)
    assert kernels.read(tmp_path / "build" / "kernels.csv") == rows
    (tmp_path / "other.csv").write_text("agent,replicas\ntrqam,1\n")
    with pytest.raises(UserError, match="other columns"):
        kernels.read(tmp_path / "other.csv")
    with pytest.raises(UserError, match="there is no file"):
        kernels.read(tmp_path / "none.csv")


def test_a_command_goes_on_where_it_was_killed(tmp_path):
    """With what is of the same code; the file has every row as soon as it is made."""
    sizes = ((16,), 2, 8, Spec(4, 2, 5), "default")
    asked = [Request("gpu", name, 1, *sizes) for name in ("bc", "trqam", "rlpd")]
    keys = [kernels.requested(request) for request in asked]
    path, code = tmp_path / "kernels.csv", kernels.digest_of_code()
    start = [row(**keys[0], code=code), row(**keys[1], code="another"), row(agent="of another command")]
    kernels.write(path, start)
    made = []

    def make(request):
        made.append(request.agent)
        return kernels.requested(request) | {"kernels": "7"}

    rows = kernels.continued(asked, path, make)
    assert next(rows) == start[0]
    assert [next(rows)["kernels"], made] == ["7", ["trqam"]]
    assert [each["kernels"] for each in kernels.read(path)] == ["834", "7", "834"]
    assert [next(rows)["phase"], made] == ["online", ["trqam", "rlpd"]]
    assert len(kernels.read(path)) == 4


@needs("jax_cuda12_plugin", how="make kernels")
def test_a_program_for_an_h100(tmp_path):
    """All of it, at a size that takes seconds."""
    command = [sys.executable, "-m", "benchmarks.kernels", "--agents=bc", "--replicas=1", "--hidden_dims=16,16"]
    path = tmp_path / "kernels.csv"
    subprocess.run([*command, "--batch_size=8", f"--csv={path}"], cwd=ROOT, env=dict(os.environ), check=True)
    (found,) = kernels.read(path)
    assert found["error"] == ""
    assert int(found["gemm"]) <= int(found["kernels"]) < 200
    assert found["host_syncs"] in ("0", "1")
