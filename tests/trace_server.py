"""A fake teacher on loopback that answers chat requests as real servers do, failures included."""

from loopback_server import BREAK as BREAK
from loopback_server import LoopbackServer


class FakeTeacher(LoopbackServer):
    """Speaks /v1/chat/completions over records.

    The seed of a request decides what is written: 0 a right chain, 1 a wrong answer, 2 a wrong step, 3 a thought that
    was cut (modulo 4).
    """

    def __init__(self, records):
        self.by_question = {record["context"]: record for record in records}
        super().__init__("/models/big-teacher")

    def answer(self, request):
        record, kind = self.by_question[request["messages"][-1]["content"]], request["seed"] % 4
        steps = [*record["steps"], *(["核对:1+1=3"] if kind == 2 else [])]
        thought = "\n".join(f"步骤{number}:{step}" for number, step in enumerate(steps, start=1))
        answer = "-12345" if kind == 1 else record["answer"]
        message = {"role": "assistant", "content": f"答案是{answer}。", "reasoning_content": thought}
        if kind == 3:
            message = {"role": "assistant", "content": None, "reasoning_content": thought[:8]}
        choice = {"index": 0, "message": message, "finish_reason": "length" if kind == 3 else "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": len(thought)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}
