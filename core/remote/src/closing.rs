//! Where an answer ends before its turn does: after the line that completes it.

use metareward_api::Finish;

use crate::{Answer, Completion};

/// Whether a line, without its break, completes the answer that it stands in.
pub type Until<'a> = dyn Fn(&str) -> bool + Sync + 'a;

/// Where the line ends that completes the answer; `None` where no finished line does.
pub(crate) fn end_of_answer(text: &str, until: &Until<'_>) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let (begin, kept) = (start, line.trim_end());
        start += line.len();
        if line.ends_with('\n') && !kept.is_empty() && until(kept) {
            return Some(begin + kept.len());
        }
    }
    None
}

/// The answer as it ends with `until`. `None`: one that was cut for another reason than there is now.
pub(crate) fn closed(mut answer: Answer, until: Option<&Until<'_>>) -> Option<Answer> {
    let [completion] = answer.completions.as_mut_slice() else { return Some(answer) };
    let was_cut = completion.finish == Finish::Stop;
    let Some(until) = until else { return (!was_cut).then_some(answer) };
    let end = end_of_answer(&completion.text, until);
    match (was_cut, end) {
        (false, None) => Some(answer),
        (false, Some(end)) => {
            let text = completion.text[..end].to_owned();
            let completion = Completion { text, finish: Finish::Stop, logprobs: None };
            // The tokens were counted of all that was said.
            Some(Answer { completions: vec![completion], usage: None })
        }
        (true, Some(_)) => None,
        (true, None) => {
            let last = completion.text.rsplit('\n').next().unwrap_or_default();
            until(last).then_some(answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, finish: Finish) -> Answer {
        Answer { completions: vec![Completion { text: text.to_owned(), finish, logprobs: None }], usage: None }
    }

    #[test]
    fn the_first_line_that_completes_is_the_last() {
        let until: &Until<'_> = &|line| line.starts_with("score");
        assert_eq!(end_of_answer("good\nscore 3 \nscore 4\n", until), Some("good\nscore 3".len()));
        assert_eq!(end_of_answer("good\nscore 3", until), None, "the line may go on");
        let cut = closed(answer("good\nscore 3\nmore", Finish::EndOfTurn), Some(until)).unwrap();
        assert_eq!(cut, answer("good\nscore 3", Finish::Stop));
        assert_eq!(closed(cut.clone(), Some(until)), Some(cut.clone()), "again it is the same");
        assert_eq!(closed(cut.clone(), None), None, "there is more of it than was kept");
        assert_eq!(closed(cut, Some(&|line| line.starts_with("points"))), None);
        let whole = answer("good\nscore 3", Finish::EndOfTurn);
        assert_eq!(closed(whole.clone(), Some(until)), Some(whole));
    }
}
