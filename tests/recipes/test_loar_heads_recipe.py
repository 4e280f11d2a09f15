"""`hf-reason loar --grain heads` on a model with two key/value groups: calibrated, searched, trained, loaded."""

import pytest
import tiny
from transformers import AutoModelForCausalLM

from hf_reason import LoAR
from hf_reason.models.loar.configuration import LoARConfig


@pytest.mark.slow
def test_heads_of_a_model_with_two_groups_from_the_options_to_the_files(
    tmp_path, dataset, _session_tokenizer, run_here
):
    model = tiny.tiny_qwen2(_session_tokenizer, num_attention_heads=4, num_key_value_heads=2)
    base = tiny.save_model(tmp_path / "base", model, _session_tokenizer)
    settings = {"dataset_name": dataset, "model_name_or_path": base, "max_steps": 3}
    refused = run_here("loar.py", *tiny.recipe_arguments(tmp_path, tmp_path / "no", budget=0.75, **settings))
    assert refused.returncode != 0 and "routes the 4 query heads of a layer" in refused.stderr
    out = tmp_path / "out"
    heads = {"grain": "heads", "budget": 0.75, "calibration_records": 4, "search_records": 4, **settings}
    done = run_here("loar.py", *tiny.recipe_arguments(tmp_path, out, **heads))
    assert done.returncode == 0, done.stderr
    assert "Importance of each head on 4 records (size of the gradient at its gate)" in done.stdout
    assert "Search of budgets on 4 records" in done.stdout and "Answer:" in done.stdout
    config = LoARConfig.from_pretrained(out)
    assert config.grain == "heads" and sum(config.budgets(2, 4)) == 6  # of eight
    loaded = LoAR.from_pretrained(AutoModelForCausalLM.from_pretrained(out), out).loar
    assert loaded.budgets == config.budgets(2, 4) and loaded.units == 4
