"""A circle under way. What each stage leaves on the disk says that it is finished, so a killed one continues there.

| stage | is finished when there is |
|---|---|
| feedback | `feedback.jsonl`, the records that are learned |
| round | the new version with its mark of `continual`, whose guard is asked again each time |
| test | an experiment that has ended |
| report | `report.md` |
"""

import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.cli import errors
from hf_reason.cli.errors import on_interrupt
from hf_reason.cli.resume import is_finished
from hf_reason.cli.stages.process import only_one, run_stage

from .client import Client
from .crowd import Crowd, drawn
from .new_feedback import count_users, prepare_feedback, read_new_feedback
from .plan import Plan
from .report import write_report
from .server import OwnServer, RunningServer, Server
from .version_test import VersionTest

RECORD = "circle.json"


class Circle:
    """A circle.

    Args:
        plan: What it does.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.args = plan, plan.args
        self.test = VersionTest(plan)
        self.record: dict[str, Any] = {}
        self._problems: dict[str, list[Mapping[str, Any]]] = {}

    def run(self) -> int:
        """Do what is not finished.

        Returns:
            The exit code: 0, that of a round that ended with an error, or that of a guard that refused.

        Raises:
            ValueError: if the folder holds another circle, or something cannot be used.
        """
        plan = self.plan
        with only_one(plan.output) as lock:
            on_interrupt(lambda: "The same command continues where it stopped.")
            self.record = self._read_record()
            self.test.check()
            self._load_problems()
            self._keep()  # a circle that cannot begin leaves no settings behind
            server, client = self._server(lock)
            try:
                return self._go_round(server, client, lock)
            finally:
                server.close()
                self.test.close()

    def _go_round(self, server: Server, client: Client, lock: TextIO) -> int:
        plan = self.plan
        server.serve(self.test.versions())
        print(f"1. {plan.version_a[0]} answers at {server.url}/v1", flush=True)
        self._collect(client)
        code = self._learn(lock)
        if code not in (errors.DONE, errors.REFUSED):
            return code
        if code == errors.REFUSED:
            print(f"4. No test: the guard refused {plan.version_b[0]}, and {plan.version_a[0]} stays.", flush=True)
        else:
            self._test(server, client)
        write_report(plan, self.record, self.test.found())
        server.serve(self.test.versions())
        print(f"5. Report: {plan.output / 'report.md'}", flush=True)
        if isinstance(server, OwnServer) and not self._problems:
            self._stay(server)
        return code

    # The server

    def _server(self, lock: TextIO) -> tuple[Server, Client]:
        args, plan = self.args, self.plan
        if args.server_url is not None:
            client = Client(args.server_url.rstrip("/").removesuffix("/v1"), plan.api_key)
            return RunningServer(client, args.poll_interval), client
        own = OwnServer(plan.serve, plan.serve_settings, plan.output, lock)
        return own, Client(own.url, plan.api_key)

    def _stay(self, server: OwnServer) -> None:
        print(f"   {server.url}/v1 answers until Ctrl-C.", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("   The server stops.", flush=True)

    # Stage by stage

    def _collect(self, client: Client) -> None:
        """Wait for feedback, or have simulated users give it, and keep what is to be learned."""
        args, plan = self.args, self.plan
        if not plan.records_file.is_file():
            after = self._learned_before()
            found = read_new_feedback(plan.feedback_file, after)
            if self._problems:
                asked = [(f"{plan.version_b[0]}-asks-{number}", row) for number, row in enumerate(self._asked())]
                print(f"2. {len(asked)} simulated users ask and correct.", flush=True)
                self._crowd(client).ask(asked, found.users)
                self._keep(asked=count_users(plan.feedback_file, f"{plan.version_b[0]}-asks-"))
                found = read_new_feedback(plan.feedback_file, after)
                if len(found.records) < args.min_feedback:
                    raise ValueError(
                        f"the simulated users gave {len(found.records)} records to learn, fewer than "
                        f"min_feedback={args.min_feedback}: give them more problems, or lower it."
                    )
            else:
                print(f"2. Waiting for {args.min_feedback} records to learn; now {len(found.records)}.", flush=True)
                while len(found.records) < args.min_feedback:
                    time.sleep(args.poll_interval)
                    found = read_new_feedback(plan.feedback_file, after)
            self._keep(last_feedback=found.last, records=len(found.records), left_out=found.left_out)
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in found.records]
            write_atomically(plan.records_file, "".join(lines))
        print(f"   {self.record['records']} records to learn: {plan.records_file}", flush=True)

    def _learn(self, lock: TextIO) -> int:
        """`continual` on the feedback; its exit code. A finished round only asks its guard again."""
        plan = self.plan
        counts = prepare_feedback(plan.records_file, plan.data_folder, plan.validates)
        self._keep(kept=counts["out"], dropped={name: count for name, count in counts["filters"].items() if count})
        made = {
            "model_name_or_path": plan.version_a[1],
            "dataset_name": str(plan.data_folder),
            "output_dir": plan.version_b[1],
        }
        config = plan.output / "continual.json"
        write_json_atomically(config, {**plan.continual_settings, **made})
        again = is_finished(plan.version_b[1])
        print(f"3. {'The guard looks at' if again else 'Learning'} {plan.version_b[0]}.", flush=True)
        begun = time.monotonic()
        words = ["continual", "--config", str(config), *plan.continual_words]
        code = run_stage(words, lock, "continual", "The same command continues there.")
        if not again and code in (errors.DONE, errors.REFUSED):
            self._keep(learning_seconds=time.monotonic() - begun)
        if code in (errors.DONE, errors.REFUSED):
            self._keep(guard="accepted" if code == errors.DONE else "refused")
        return code

    def _test(self, server: Server, client: Client) -> None:
        """Both versions answer until a difference is shown, or there are `max_outcomes`; then one of them stays."""
        test, name_b = self.test, self.plan.version_b[0]
        if not test.ended():
            server.serve([self.plan.version_a, self.plan.version_b])
            test.start()
            print(f"4. A/B test: {100 * self.args.fraction:g}% of the users get {name_b}.", flush=True)
            self._wait_for_outcomes(client)
            test.decide()
        found = test.found()
        assert found is not None
        print(f"   {test.result().summary}: {found.status.replace('_', ' ')}.", flush=True)

    def _wait_for_outcomes(self, client: Client) -> None:
        args, test, name = self.args, self.test, self.plan.version_b[0]
        if not self._problems:
            while not test.is_enough():
                time.sleep(args.poll_interval)
            return
        done = read_new_feedback(self.plan.feedback_file).users
        users = drawn(self._problems["test"], f"{name}-tests-", args.max_outcomes, args.seed)
        self._crowd(client).ask(users, done, test.is_enough, corrects=False)

    # Users

    def _crowd(self, client: Client) -> Crowd:
        args = self.args
        return Crowd(
            client, self.plan.model, num_clients=args.num_clients, correct_ratio=args.correct_ratio, seed=args.seed
        )

    def _load_problems(self) -> None:
        from hf_reason.cli.inputs.datasets import load_records
        from hf_reason.cli.inputs.images import refuse_images
        from hf_reason.cli.inputs.raw_data import prepared_places

        args = self.args
        if args.crowd_dataset_name is None:
            return
        places = prepared_places(args.crowd_dataset_name, domain=args.crowd_domain)
        for key, split in (("train", args.crowd_split), ("test", args.crowd_test_split)):
            found = list(load_records(places, split, args.crowd_domain))
            if not found:
                raise ValueError(f"{', '.join(places)} has no problem in its split {split}.")
            refuse_images({split: found}, "users ask their questions in words alone", "crowd_dataset_name")
            self._problems[key] = found  # type: ignore[assignment]

    def _asked(self) -> Sequence[Mapping[str, Any]]:
        rows = list(self._problems["train"])
        random.Random(self.args.seed).shuffle(rows)
        return rows[: self.args.crowd_max_problems]

    # State

    def _read_record(self) -> dict[str, Any]:
        path = self.plan.output / RECORD
        identity = self.plan.identity()
        if not path.is_file():
            return {"settings": identity}
        record = json.loads(path.read_text(encoding="utf-8"))
        for name, value in identity.items():
            if record["settings"][name] != value:
                raise ValueError(
                    f"the circle in {self.plan.output} was begun with {name}={record['settings'][name]!r}, not "
                    f"{value!r}. Choose another output_dir, or go on as before."
                )
        return record

    def _keep(self, **values: Any) -> None:
        self.record |= values
        write_json_atomically(self.plan.output / RECORD, self.record)

    def _learned_before(self) -> int:
        """The number of the last feedback that the version in use has learned, if a circle made it."""
        path = Path(self.plan.version_a[1]).parent / RECORD
        if not path.is_file():
            return 0
        found = json.loads(path.read_text(encoding="utf-8"))
        number = int(found.get("last_feedback", 0))
        print(f"   Feedback up to number {number} was learned by {self.plan.version_a[0]}.", flush=True)
        return number
