"""A fake teacher server on loopback that answers as vLLM does."""

import threading

import numpy as np
import torch
from loopback_server import LoopbackServer


def local_log_probs(model, sequences):
    with torch.no_grad():
        logits = [model(torch.tensor([list(sequence)])).logits[0, :-1] for sequence in sequences]
    return [row.float().log_softmax(-1).numpy() for row in logits]


class FakeServer(LoopbackServer):
    """Speaks /completions; `change` edits what would be right."""

    def __init__(self, model):
        self.model, self.computing = model, threading.Lock()
        self.read = lambda prompt: prompt
        self.change = lambda entries: entries
        super().__init__("teacher")

    def answer(self, request):
        prompt, k = self.read(request["prompt"]), request["prompt_logprobs"]
        entries = [None]
        with self.computing:
            rows = local_log_probs(self.model, [prompt])[0]
        for row, actual in zip(rows, prompt[1:], strict=True):
            # vLLM: the prompt's own token first, then the k most likely, of which it may be one
            ids = dict.fromkeys([actual, *np.argsort(-row)[:k].tolist()])
            # how many tokens are as likely or more
            ranks = (len(row) - np.searchsorted(np.sort(row), row, side="left")).tolist()
            values = row.tolist()
            entries.append({str(t): {"logprob": values[t], "rank": ranks[t], "decoded_token": f"<{t}>"} for t in ids})
        return {"choices": [{"index": 0, "text": "", "prompt_logprobs": self.change(entries)}]}
