//! Texts to encoding tasks: texts of like length together, so that little is padded.

/// Numbers of the texts of each task, given the tokens of each text.
///
/// A task is computed as wide as its longest text: texts x longest is at most `tokens_max`, unless one text alone is
/// longer. Longest first, so that the short tasks even out the end.
///
/// # Complexity
/// O(n log n).
pub(super) fn pack(tokens: &[usize], tokens_max: usize, texts_max: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    // Stable: equal texts stay in their order, whatever the machine.
    order.sort_by_key(|text| std::cmp::Reverse(tokens[*text]));
    let mut tasks = Vec::new();
    let mut rest = order.as_slice();
    while let Some(longest) = rest.first() {
        let width = tokens[*longest].max(1);
        let count = (tokens_max / width).clamp(1, texts_max.max(1)).min(rest.len());
        let (task, more) = rest.split_at(count);
        tasks.push(task.to_vec());
        rest = more;
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn like_lengths_stand_together_longest_first() {
        assert_eq!(pack(&[3, 9, 1, 8, 3], 18, 10), [vec![1, 3], vec![0, 4, 2]]);
        assert_eq!(pack(&[5, 100, 5], 20, 10), [vec![1], vec![0, 2]]);
        assert_eq!(pack(&[1, 1, 1], 100, 2), [vec![0, 1], vec![2]]);
        assert_eq!(pack(&[], 100, 2), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn every_text_is_in_one_task_and_no_task_is_over_its_budget() {
        let mut stream = RandomStream::new(20_260_807);
        for _ in 0..500 {
            let count = stream.below(200) as usize;
            let tokens: Vec<usize> = (0..count).map(|_| stream.below(400) as usize).collect();
            let (tokens_max, texts_max) = (1 + stream.below(2000) as usize, 1 + stream.below(40) as usize);
            let tasks = pack(&tokens, tokens_max, texts_max);
            let mut seen: Vec<usize> = tasks.iter().flatten().copied().collect();
            let widths: Vec<usize> =
                tasks.iter().map(|task| task.iter().map(|text| tokens[*text]).max().unwrap()).collect();
            for (task, width) in tasks.iter().zip(&widths) {
                assert!(task.len() <= texts_max);
                assert!(task.len() == 1 || task.len() * width <= tokens_max, "{task:?} of {width}");
            }
            assert!(widths.is_sorted_by(|left, right| left >= right), "{widths:?}");
            // No task could have taken the first text of the next one.
            for (pair, width) in tasks.windows(2).zip(&widths) {
                let larger = pair[0].len() + 1;
                assert!(larger > texts_max || larger * width.max(&1) > tokens_max);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }
}
