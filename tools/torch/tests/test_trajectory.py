"""The log of a training loop."""

import unittest

import numpy as np
import torch

from ascribe_collect import TrajectoryLog, own_label_probability
from example_models import perceptron
from sketch_case import SketchCase


class Log(unittest.TestCase):
    def test_epochs_in_any_order_of_rows(self):
        log = TrajectoryLog(3)
        log.record(torch.tensor([2, 0]), torch.tensor([0.2, 0.4]))
        log.record([1], [0.6])
        log.end_epoch(learning_rate=0.5)
        log.record(np.array([0, 1, 2]), np.array([0.5, 0.7, 0.3]))
        log.end_epoch(learning_rate=0.25, epochs=4)
        tensors = log.tensors()
        np.testing.assert_allclose(tensors["trajectory.p"], [[0.4, 0.5], [0.6, 0.7], [0.2, 0.3]], rtol=1e-6)
        np.testing.assert_array_equal(tensors["trajectory.weight"], [0.5, 1.0])
        self.assertEqual((tensors["trajectory.p"].dtype, log.missed), (np.float32, 0))

    def test_runs_are_averaged(self):
        log = TrajectoryLog(2)
        for run, shift in enumerate((0.0, 0.2)):
            if run:
                log.next_run()
            for epoch in range(3):
                log.record([0, 1], [0.1 * epoch + shift, 0.5])
                log.end_epoch(0.1)
        np.testing.assert_allclose(log.tensors()["trajectory.p"], [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], rtol=1e-6)
        log.next_run()
        log.record([0, 1], [0.1, 0.5])
        log.end_epoch(0.1)
        with self.assertRaisesRegex(ValueError, "the runs differ"):
            log.tensors()

    def test_a_missed_epoch_takes_the_neighbours_value(self):
        log = TrajectoryLog(2)
        for p in (None, 0.6, 0.7, None, 0.8):
            log.record([0], [0.5])
            if p is not None:
                log.record([1], [p])
            log.end_epoch(1)
        np.testing.assert_allclose(log.tensors()["trajectory.p"][1], [0.6, 0.6, 0.7, 0.7, 0.8], rtol=1e-6)
        self.assertEqual(log.missed, 2)
        never = TrajectoryLog(2)
        never.record([0], [0.5])
        never.end_epoch(1)
        with self.assertRaisesRegex(ValueError, "row 1 was recorded in no epoch"):
            never.tensors()

    def test_wrong_values_are_refused(self):
        log = TrajectoryLog(3)
        for rows, p, text in (
            ([0, 1], [0.5], "2.* row numbers and .*1.* probabilities"),
            ([3], [0.5], "row 3 is not one of 3 rows"),
            ([-1], [0.5], "row -1 is not one of 3 rows"),
            ([1], [1.5], "row 1 has the probability 1.5"),
            ([1], [float("nan")], "row 1 has the probability nan"),
            ([0.5], [0.5], "row numbers are float64"),
        ):
            with self.subTest(rows=rows, p=p), self.assertRaisesRegex(ValueError, text):
                log.record(rows, p)
        with self.assertRaisesRegex(ValueError, "no row was recorded"):
            log.end_epoch(0.1)
        with self.assertRaisesRegex(ValueError, "no epoch"):
            log.tensors()
        log.record([0, 1, 2], [0.5, 0.5, 0.5])
        log.end_epoch(0)
        with self.assertRaisesRegex(ValueError, "all learning rates are 0"):
            log.tensors()
        log.record([0], [0.5])
        with self.assertRaisesRegex(ValueError, "learning rate nan"):
            log.end_epoch(float("nan"))


class InAFile(SketchCase):
    def test_the_log_of_a_training_loop_is_written(self):
        model, x, y = perceptron(4, 3), torch.randn(6, 4), torch.randint(3, (6,))
        optimiser, log, expected = torch.optim.SGD(model.parameters(), lr=0.3), TrajectoryLog(6), []
        for _ in range(2):
            for rows in torch.arange(6).split(4):
                logits = model(x[rows])
                log.record(rows, own_label_probability(logits, y[rows]))
                expected += torch.softmax(logits, dim=1)[range(len(rows)), y[rows]].tolist()
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(logits, y[rows]).backward()
                optimiser.step()
            log.end_epoch(0.3)
        sketch, _ = self.collect(model, [(y, lambda model: model(x))], finish={"trajectory": log})
        self.assert_close(sketch.tensors["trajectory.p"], np.array(expected).reshape(2, 6).T)
        np.testing.assert_array_equal(sketch.tensors["trajectory.weight"], np.float32([0.3, 0.3]))
        with self.assertRaisesRegex(ValueError, "a trajectory of 5 rows for 6 rows"):
            self.collect(model, [(y, lambda model: model(x))], finish={"trajectory": TrajectoryLog(5)})


if __name__ == "__main__":
    unittest.main()
