"""GGUF files: the weights in their places, the tokenizer, the check, and what GGUF cannot hold."""

import copy
import json

import pytest
import torch
from chat_templates import GLM_4_5_TEMPLATE, HYBRID_TEMPLATE, QWEN2_5_TEMPLATE, QWEN3_TEMPLATE, R1_PREFILL_TEMPLATE
from tiny import save_model, tiny_model, tiny_step_reasoner
from tokenizers import pre_tokenizers

pytest.importorskip("gguf")

from hf_reason.compression import QuantizationError, check_gguf, write_gguf
from hf_reason.compression.gguf import gguf_tensors, interleaved
from hf_reason.compression.gguf_tokenizer import read_tokenizer

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
PROMPT = "<|user|>小明有3个苹果，1+1=2?\n<|assistant|><think>"


def _model(tokenizer, kind="qwen2", rope=None, **overrides):
    rope = {"rope_type": "default", "rope_theta": 500.0, **(rope or {})}
    return tiny_model(tokenizer, kind, rope_parameters=rope, **{**SIZES, "sliding_window": None, **overrides}).eval()


@pytest.mark.parametrize(
    "kind, outtype, more",
    [
        *[("qwen2", outtype, {"tie_word_embeddings": True}) for outtype in ("f32", "f16", "bf16", "q8_0", "q4_0")],
        ("qwen3", "q8_0", {"head_dim": 8}),
        ("llama", "q4_0", {"attention_bias": True, "mlp_bias": True}),
        ("mistral", "f32", {"head_dim": 32}),
    ],
)
def test_what_is_read_again_is_what_was_written(tokenizer, tmp_path, kind, outtype, more):
    model = _model(tokenizer, kind, **more)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms, too
            parameter.add_(torch.randn_like(parameter) * 0.02)
    export = write_gguf(model, tokenizer, tmp_path / "m.gguf", outtype)
    found = check_gguf(tmp_path / "m.gguf", model, tokenizer, export, [PROMPT])
    assert found.tensors == len(list(gguf_tensors(model))) == sum(export.types.values())
    assert (outtype in export.types) and found.texts == 7
    limit = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2, "q8_0": 0.1, "q4_0": 1.0}[outtype]
    assert found.largest_difference < limit and (found.largest_difference > 0 or outtype == "f32")
    assert any("head_dim" in note for note in found.notes) == (kind == "qwen3")


def test_halves_become_neighbours():
    rows = torch.arange(8.0)[:, None]  # two heads of four: (0, 1 | 2, 3), (4, 5 | 6, 7)
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleaved(rows[:, 0], 1).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_rows_that_fill_no_block_and_a_padded_vocabulary(tokenizer, tmp_path):
    model = _model(tokenizer, intermediate_size=90, vocab_size=len(tokenizer) + 5)
    export = write_gguf(model, tokenizer, tmp_path / "m.gguf", "q8_0")
    assert export.types["f16"] == 2 and "2 tensors with rows that are no multiple of 32" in " ".join(export.notes)
    assert export.tokenizer.types[-5:] == [5] * 5
    check_gguf(tmp_path / "m.gguf", model, tokenizer, export, [PROMPT])


def test_another_model_in_the_file_is_noticed(tokenizer, tmp_path):
    model, path = _model(tokenizer), tmp_path / "m.gguf"
    export = write_gguf(model, tokenizer, path, "f16")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight[3, 4] += 1
    with pytest.raises(QuantizationError, match=r"blk\.1\.ffn_up\.weight is read from the file as other numbers"):
        check_gguf(path, other, tokenizer, export, [PROMPT])
    words = copy.deepcopy(tokenizer)
    words.chat_template = "{{ messages }}"
    with pytest.raises(QuantizationError, match="chat template"):
        check_gguf(path, model, words, export, [PROMPT])
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(QuantizationError, match="gives other ids for"):
        check_gguf(path, model, words, export, [PROMPT])
    with pytest.raises(QuantizationError, match="max_kl=1e-12"):
        check_gguf(path, model, tokenizer, export, [PROMPT], max_kl=1e-12)


def test_tokenizer_in_the_file(tokenizer):
    words = read_tokenizer(tokenizer, len(tokenizer), [7, tokenizer.eos_token_id])
    assert words.rule == "qwen2" and words.special["eos"] == tokenizer.eos_token_id and words.special["eot"] == 7
    assert not words.add_bos and not words.add_eos and words.chat_template == tokenizer.chat_template
    kinds = dict(zip(words.tokens, words.types, strict=True))
    assert (kinds["<|user|>"], kinds["<think>"], kinds["a"]) == (3, 4, 1)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert read_tokenizer(tokenizer, len(tokenizer)).rule == "gpt-2"
    for rule in (pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=True)):
        tokenizer.backend_tokenizer.pre_tokenizer = rule
        with pytest.raises(QuantizationError, match=r"none of llama\.cpp's"):
            read_tokenizer(tokenizer, len(tokenizer))


def test_attention_that_slides_ends_the_context(tokenizer, tmp_path):
    import gguf

    model = _model(tokenizer, "mistral", sliding_window=64)
    export = write_gguf(model, tokenizer, tmp_path / "m.gguf", "f16")
    assert "slides over 64 tokens" in " ".join(export.notes)
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert fields["llama.context_length"].contents() == 64


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda model: setattr(model.config, "hidden_act", "gelu"), "hidden_act=gelu"),
        (lambda model: model.config.rope_parameters.update(rope_type="dynamic", factor=2.0), "rope scaling dynamic"),
        (lambda model: model.lm_head.weight.data.fill_(1e6), "output.weight has weights up to 1e.06, more than F16"),
        (lambda model: model.lm_head.weight.data.fill_(float("nan")), "output.weight has a weight that is no number"),
    ],
)
def test_what_does_not_fit_leaves_no_file(tokenizer, tmp_path, change, message):
    model = _model(tokenizer)
    change(model)
    with pytest.raises(QuantizationError, match=message):
        write_gguf(model, tokenizer, tmp_path / "m.gguf", "f16")
    assert not list(tmp_path.iterdir())


def test_architectures_that_gguf_does_not_have(tokenizer, tmp_path):
    for model in (tiny_step_reasoner(tokenizer), tiny_model(tokenizer, "gemma2")):
        with pytest.raises(
            QuantizationError, match=rf"{model.config.model_type}; GGUF export supports dense models of"
        ):
            write_gguf(model, tokenizer, tmp_path / "m.gguf")
    with pytest.raises(QuantizationError, match="outtype must be one of f32"):
        write_gguf(_model(tokenizer), tokenizer, tmp_path / "m.gguf", "q2_k")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    from hf_reason.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["export-gguf", "--model_name_or_path", "model", "--outfile", "out/m.gguf", *arguments])
        return code, *capsys.readouterr()

    return run


def test_command_writes_checks_and_keeps(command, tokenizer, tmp_path):
    save_model(tmp_path / "model", _model(tokenizer), tokenizer)
    code, out, err = command()
    assert code == 0, err
    assert "Checked: 27 tensors and the ids of 9 texts are right; largest difference" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.gguf"]
    assert str(tmp_path).encode() not in (tmp_path / "out/m.gguf").read_bytes()
    code, _, err = command()
    assert code == 2 and "out/m.gguf is there already" in err
    (tmp_path / "out/m.gguf").unlink()
    code, _, err = command("--outtype", "q4_0", "--max_kl", "1e-9")
    assert code == 2 and "too far from the model's" in err and not list((tmp_path / "out").iterdir())
    code, _, err = command("--outfile", "m.bin")
    assert code == 2 and "must end in .gguf" in err


def test_command_merges_a_lora_and_refuses_what_is_no_part_of_gguf(command, tokenizer, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = _model(tokenizer)
    save_model(tmp_path / "base", base, tokenizer)
    adapted = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "model")
    config = tmp_path / "model/adapter_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(tmp_path / "base")})
    )
    tokenizer.save_pretrained(tmp_path / "model")
    code, out, err = command("--outtype", "f32")
    assert code == 0, err
    # against the merged model; the unmerged one is far away
    assert float(out.split("largest difference of a logit ")[1].split(",")[0]) < 1e-5
    (tmp_path / "out/m.gguf").unlink()
    save_model(tmp_path / "step", tiny_step_reasoner(tokenizer), tokenizer)
    code, _, err = command("--model_name_or_path", "step")
    assert code == 2 and "step_reasoner; GGUF export supports" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "template, is_noted",
    [
        (None, False),  # the tokenizer's own, which writes reasoning_content
        (HYBRID_TEMPLATE, True),
        (QWEN3_TEMPLATE, True),
        (GLM_4_5_TEMPLATE, True),
        (HYBRID_TEMPLATE.replace("{{ m['content'].split", "{{ m['reasoning_content'] }}{{ m['content'].split"), False),
        (HYBRID_TEMPLATE.replace("{{ m['content'].split", "{{ m['thinking'] }}{{ m['content'].split"), True),
        (QWEN2_5_TEMPLATE, False),  # no switch
        (R1_PREFILL_TEMPLATE, False),
        ("{{ 1 / 0 }}", False),
    ],
)
def test_a_template_whose_thinking_llama_cpp_switches_off_is_noted(tokenizer, template, is_noted):
    tokenizer.chat_template = template or tokenizer.chat_template
    notes = read_tokenizer(tokenizer, len(tokenizer)).notes
    assert any("--chat-template-kwargs" in note for note in notes) == is_noted
