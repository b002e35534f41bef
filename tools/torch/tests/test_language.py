"""Language models: summed token losses, prompts, padding, packed rows, sampled labels."""

import unittest

import numpy as np
import torch
from torch.nn import functional as F

from ascribe_collect import Collector, next_token_labels
from ascribe_collect.kinds import kind_of
from ascribe_collect.packing import Packing
from example_models import LanguageModel, inner_products, weight_gradients
from sketch_case import Sketch, SketchCase

LENGTHS, PROMPTS = (6, 3, 7, 2, 5), (2, 1, 0, 0, 3)


class Language(SketchCase):
    def setUp(self):
        super().setUp()
        self.examples = [torch.randint(1, 13, (length,)) for length in LENGTHS]
        self.tokens = torch.zeros(5, 7, dtype=torch.int64)
        for row, example in enumerate(self.examples):
            self.tokens[row, : len(example)] = example
        self.mask = self.tokens > 0
        self.labels = next_token_labels(self.tokens, prompt_lengths=PROMPTS, token_mask=self.mask)
        # Two rows that hold all five: 6 + 3 + 2 of padding, and 7 + 2 + 5 - more than one row of 14.
        self.packed = torch.zeros(2, 14, dtype=torch.int64)
        self.segments = torch.full((2, 14), -1)
        for row, start, example in ((0, 0, 0), (0, 6, 1), (1, 0, 2), (1, 7, 3), (1, 9, 4)):
            end = start + LENGTHS[example]
            self.packed[row, start:end] = self.examples[example]
            self.segments[row, start:end] = 10 - example
        self.packed_labels = next_token_labels(self.packed, prompt_lengths=PROMPTS, segments=self.segments)

    def single(self, model):
        """Each example alone: (weights' gradients of tied models, of all parameters' layers otherwise)."""
        rows = []
        for example, prompt in zip(self.examples, PROMPTS):
            logits = model(example[None])[0]
            counted = slice(max(prompt - 1, 0), len(example) - 1)
            loss = F.cross_entropy(logits[counted], example[1:][counted], reduction="sum")
            rows.append(loss)
        return rows

    def collect_tokens(self, model, calls, name="sketch.safetensors", **settings):
        path = self.folder / name
        with Collector(model, path, **settings) as collector:
            collector.member(run=0, epoch=1)
            rows = sum(collector.add_tokens(*arguments, **named) for arguments, named in calls)
            report = collector.finish(map(str, range(rows)))
        return Sketch(path), report

    def padded(self, cuts=(0, 2, 5)):
        for start, end in zip(cuts, cuts[1:]):
            part = slice(start, end)
            forward = lambda model, part=part: model(self.tokens[part])  # noqa: E731
            yield (self.labels[part], forward), {"token_mask": self.mask[part]}

    def in_one(self):
        forward = lambda model: model(self.packed, self.segments)  # noqa: E731
        yield (self.packed_labels, forward), {"segments": self.segments}

    def test_gradients_are_those_of_single_examples(self):
        for tied in (True, False):
            model = LanguageModel(tied=tied)
            layers = [module for module in model.modules() if kind_of(module)]
            if tied:
                layers = [layer for layer in layers if layer is not model.words]
            expected = inner_products([weight_gradients(layers, loss) for loss in self.single(model)])
            for name, calls in (("padded", self.padded()), ("packed", self.in_one())):
                with self.subTest(tied=tied, name=name):
                    sketch, report = self.collect_tokens(model, calls, rank=8)
                    self.assert_close(sketch.inner_products(), expected)
                    self.assertEqual(report.rows, 5)
                    self.assertEqual(sketch.schema["labels"], "true")

    def test_packed_rows_are_those_of_single_rows(self):
        model = LanguageModel(tied=False)
        padded, _ = self.collect_tokens(model, self.padded(), "padded.safetensors", rank=2)
        packed, _ = self.collect_tokens(model, self.in_one(), "packed.safetensors", rank=2)
        self.assertEqual(packed.schema, padded.schema)
        for module in padded.schema["modules"]:
            self.assert_close(packed.gradient(module["name"]), padded.gradient(module["name"]))
        np.testing.assert_array_equal(packed.tensors["m0.words.ids"], padded.tensors["m0.words.ids"])

    def test_packed_examples_that_see_each_other_are_refused(self):
        forward = lambda model: model(self.packed, self.segments, apart=False)  # noqa: E731
        with self.assertRaisesRegex(ValueError, "the loss of a row depends on other rows"):
            self.collect_tokens(LanguageModel(), [((self.packed_labels, forward), {"segments": self.segments})])

    def test_padding_that_counts_is_refused(self):
        mask = self.mask.clone()
        mask[0, 0] = False
        calls = [((self.labels, lambda model: model(self.tokens)), {"token_mask": mask})]
        with self.assertRaisesRegex(ValueError, "words: the loss depends on tokens that token_mask calls padding"):
            self.collect_tokens(LanguageModel(tied=False), calls)

    def test_the_padding_token_is_no_term(self):
        model = LanguageModel(tied=False)
        masked, _ = self.collect_tokens(model, self.padded())
        self.assertNotIn(0, masked.tensors["m0.words.ids"])
        calls = [((self.labels, lambda model: model(self.tokens)), {})]
        plain, _ = self.collect_tokens(model, calls, "plain.safetensors")
        self.assertIn(0, plain.tensors["m0.words.ids"])
        self.assert_close(plain.inner_products(), masked.inner_products())

    def test_sampled_labels_are_the_same_packed_or_not(self):
        model = LanguageModel(tied=False)
        settings = {"labels": "sampled", "seed": 5, "rank": 2}
        padded, _ = self.collect_tokens(model, self.padded(), "padded.safetensors", **settings)
        batched, _ = self.collect_tokens(model, self.padded((0, 1, 4, 5)), "batched.safetensors", **settings)
        packed, _ = self.collect_tokens(model, self.in_one(), "packed.safetensors", **settings)
        true, _ = self.collect_tokens(model, self.padded(), "true.safetensors", rank=2)
        self.assert_close(packed.inner_products(), padded.inner_products())
        self.assert_close(batched.inner_products(), padded.inner_products())
        self.assertGreater(np.abs(true.inner_products() - padded.inner_products()).max(), 1e-2)
        self.assertEqual(padded.schema["labels"], "sampled")

    def test_sampled_labels_follow_the_model_and_leave_the_prompt_out(self):
        model = LanguageModel(vocabulary=3, tied=False)
        rows = 3000
        tokens = torch.tensor([[1, 2]]).expand(rows, 2)
        labels = next_token_labels(tokens)
        logits = model(tokens[:1])[0, 0].detach()
        sketch, _ = self.collect_tokens(
            model, [((labels, lambda model: model(tokens)), {})], labels="sampled", layers=["head"]
        )
        # The head's u is p minus one-hot, up to its scale and sign: the label's entry has the other sign.
        u = sketch.tensors["m0.head.u"][:, 0]
        u = u * np.sign(u).sum(1, keepdims=True)
        shares = np.bincount(u.argmin(1), minlength=3) / rows
        self.assertLess(np.abs(shares - torch.softmax(logits, 0).numpy()).max(), 4 * (0.25 / rows) ** 0.5)

    def test_fitted_tokens_keep_their_gradient(self):
        model = LanguageModel(tied=False)
        with torch.no_grad():
            model.head.weight[4] += 12 * torch.sign(model.norm(model.words.weight[4]))
        tokens = torch.tensor([[4, 4]])
        logits = model.double()(tokens)[0, 0].detach()
        model.float()
        own = float(torch.softmax(logits, 0).sum() - torch.softmax(logits, 0)[4])
        self.assertLess(own, 1e-9, "the token is not fitted: this test compares nothing")
        sketch, _ = self.collect_tokens(
            model, [((next_token_labels(tokens), lambda model: model(tokens)), {})], layers=["head"]
        )
        found = sketch.gradient("head")[0][4]
        hidden = {}
        handle = model.norm.register_forward_hook(lambda module, inputs, output: hidden.update(x=output[0, 0].detach()))
        model(tokens)
        handle.remove()
        others = torch.softmax(logits, 0)
        others[4] = 0
        self.assert_close(found, -float(others.sum()) * hidden["x"].double().numpy(), 1e-4)

    def test_rows_without_labels_are_counted(self):
        labels = self.labels.clone()
        labels[1] = -100
        sketch, report = self.collect_tokens(
            LanguageModel(tied=False), [((labels, lambda model: model(self.tokens)), {})]
        )
        self.assertEqual(np.abs(sketch.gradient("head")[1]).max(), 0)
        self.assertTrue(any("1 row(s) have no token with a label" in text for text in report.remarks), report)

    def test_wrong_labels_and_segments_are_refused(self):
        forward = lambda model: model(self.tokens)  # noqa: E731
        for labels, named, text in (
            (self.labels[:, :5], {}, r"logits of shape \[5, 7, 13\] for labels of shape \[5, 5\]"),
            (self.labels.float(), {}, "labels are torch.float32"),
            (self.labels + 13, {}, "row 0 of the batch has the label"),
            (self.labels[0], {}, "tokens. is wanted"),
            (self.labels, {"segments": self.segments}, "segments of shape"),
            (self.labels, {"segments": torch.full((5, 7), -1)}, "segments name no example"),
            (self.labels, {"segments": torch.zeros(5, 7)}, "whole numbers"),
            (self.labels, {"token_mask": self.mask[:3]}, "token_mask of shape"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, text):
                self.collect_tokens(LanguageModel(), [((labels, forward), named)])
        with self.assertRaisesRegex(ValueError, "margin and the jacobian are for one label a row"):
            self.collect_tokens(LanguageModel(), [((self.labels, forward), {})], measurement="margin")

    def test_layers_without_tokens_cannot_be_packed(self):
        class Pooled(LanguageModel):
            def __init__(self):
                super().__init__(tied=False)
                self.pool = torch.nn.Linear(8, 8)

            def forward(self, tokens, segments):
                logits = super().forward(tokens, segments)
                return logits + self.pool(self.words(tokens).mean(1)).sum(1)[:, None, None]

        forward = lambda model: model(self.packed, self.segments)  # noqa: E731
        with self.assertRaisesRegex(ValueError, "pool works on .2, 8., but packed rows"):
            self.collect_tokens(
                Pooled(), [((self.packed_labels, forward), {"segments": self.segments})], layers=["pool"]
            )


class Labels(unittest.TestCase):
    def test_labels_are_the_next_tokens(self):
        tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
        self.assertEqual(next_token_labels(tokens).tolist(), [[2, 3, 4, -100], [6, 0, 0, -100]])
        masked = next_token_labels(tokens, prompt_lengths=[3, 0], token_mask=tokens > 0)
        self.assertEqual(masked.tolist(), [[-100, -100, 4, -100], [6, -100, -100, -100]])
        segments = torch.tensor([[3, 3, 1, 1], [0, 0, -1, -1]])
        self.assertEqual(
            next_token_labels(tokens, segments=segments).tolist(), [[2, -100, 4, -100], [6, -100, -100, -100]]
        )
        packed = next_token_labels(tokens, prompt_lengths=[0, 2, 1], segments=segments)
        self.assertEqual(packed.tolist(), [[2, -100, -100, -100], [6, -100, -100, -100]])
        for named, text in (
            ({"prompt_lengths": [1]}, "prompt lengths for 2 examples"),
            ({"token_mask": tokens[:1] > 0}, "token_mask of shape"),
            ({"segments": segments[:1]}, "segments of shape"),
        ):
            with self.assertRaisesRegex(ValueError, text):
                next_token_labels(tokens, **named)

    def test_examples_may_be_in_pieces(self):
        packing = Packing(torch.tensor([[1, 0, 1, -1]]))
        self.assertEqual(packing.index.tolist(), [[0, 2], [1, 4]])
        self.assertEqual(packing.example_of.tolist(), [[0, 1, 0, -1]])


class HuggingFace(SketchCase):
    def test_gradients_of_gpt2_are_those_of_single_examples(self):
        try:
            from transformers import GPT2Config, GPT2LMHeadModel
        except ImportError:
            self.skipTest("transformers is not installed")
        config = GPT2Config(vocab_size=17, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0)
        model = GPT2LMHeadModel(config).eval()
        tokens = torch.randint(1, 17, (4, 6))
        mask = torch.ones_like(tokens)
        for row, length in enumerate((6, 4, 5, 2)):
            mask[row, length:] = 0
        labels = next_token_labels(tokens, token_mask=mask)
        path = self.folder / "sketch.safetensors"
        with Collector(model, path, rank=8) as collector:
            collector.member(run=0, epoch=1)
            collector.add_tokens(
                labels, lambda model: model(input_ids=tokens, attention_mask=mask).logits, token_mask=mask
            )
            print_report = str(collector.finish(map(str, range(4))))
        self.assertIn("transformer.wte, lm_head: one weight", print_report)
        sketch = Sketch(path)
        single = []
        layers = [module for name, module in model.named_modules() if kind_of(module) and not name.endswith("wte")]
        for row in range(4):
            logits = model(input_ids=tokens[row : row + 1], attention_mask=mask[row : row + 1]).logits[0]
            single.append(weight_gradients(layers, F.cross_entropy(logits, labels[row], reduction="sum")))
        self.assert_close(sketch.inner_products(), inner_products(single))


if __name__ == "__main__":
    unittest.main()
