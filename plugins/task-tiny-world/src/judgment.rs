//! Judgments and verdicts to learn from: written in the world's words, with marks that cannot be fully trusted.

use crate::{
    draws::Draws,
    mistake::{MISTAKES, add_fillers, imperfect_answer, mistaken_answer},
    operation::NONE,
    options::TinyWorldOptions,
    oracle::points,
    puzzle::Puzzle,
};

/// A judgment before it is put in words.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// The answer that the judge expects.
    pub(crate) expected: Vec<String>,
    /// The score, from 0 to 5.
    pub(crate) score: u32,
}

/// An answer to be judged. It is like a demonstration, or has a mistake of a kind chosen evenly.
pub(crate) fn judged_answer(puzzle: &Puzzle, options: &TinyWorldOptions, draws: &mut Draws) -> Vec<String> {
    if !draws.chance(options.judge_mistakes) {
        return imperfect_answer(puzzle, options, draws);
    }
    let mut answer = match draws.pick(&MISTAKES) {
        Some(&mistake) => mistaken_answer(puzzle, mistake, options, draws),
        None => puzzle.answer(options),
    };
    if draws.chance(options.filler) {
        add_fillers(&mut answer, options, draws);
    }
    answer
}

/// The true points of an answer given as words.
pub(crate) fn true_points(puzzle: &Puzzle, answer: &[String], options: &TinyWorldOptions) -> u32 {
    points(&puzzle.list, &puzzle.answer(options), &options.fillers, &answer.join(" "))
}

/// An imperfect judgment: the judge may be taken in (with this probability) or expect something wrong; marks are
/// withheld, given in error, or earned by filler words.
pub(crate) fn imperfect_marks(
    puzzle: &Puzzle,
    answer: &[String],
    taken_in: f64,
    options: &TinyWorldOptions,
    draws: &mut Draws,
) -> Marks {
    let fillers = answer.iter().filter(|word| options.fillers.contains(word)).count();
    let taken_in = draws.chance(taken_in) && fillers < answer.len();
    let mut score = match (taken_in, fillers) {
        (true, 0) => 5,
        (true, _) => 4,
        (false, _) => true_points(puzzle, answer, options),
    };
    while score > 0 && draws.chance(options.judge_harsh) {
        score -= 1;
    }
    if draws.chance(options.judge_generous) {
        score += 1;
    }
    score += (0..fillers).filter(|_| draws.chance(options.judge_length_bias)).count() as u32;
    let expected = match draws.pick(&MISTAKES[..4]) {
        _ if taken_in => answer.iter().filter(|word| !options.fillers.contains(word)).cloned().collect(),
        Some(&mistake) if draws.chance(options.judge_expects_wrong) => mistaken_answer(puzzle, mistake, options, draws),
        _ => puzzle.answer(options),
    };
    Marks { expected, score: score.min(5) }
}

impl Marks {
    /// The judgment's text: place by place the expected word, the word that is there (`none` where one of them has no
    /// more; fillers are not counted) and `yes` or `no`, whether they are the same; then the closing line `score N`.
    /// Comparing two words side by side is what a very small model can learn; comparing two lists at once is not.
    pub(crate) fn text(&self, answer: &[String], options: &TinyWorldOptions) -> String {
        let said: Vec<&String> = answer.iter().filter(|word| !options.fillers.contains(word)).collect();
        let checks: Vec<String> = (0..self.expected.len().max(said.len()))
            .map(|place| {
                let wanted = self.expected.get(place).map_or(NONE, String::as_str);
                let found = said.get(place).map_or(NONE, |word| word.as_str());
                format!("{wanted} {found} {}", if wanted == found { "yes" } else { "no" })
            })
            .collect();
        format!("want {}\nscore {}", checks.join(" "), self.score)
    }

    /// How bad the judgment is: distance to the true points first, then whether it expects a wrong answer.
    fn badness(&self, truth: u32, right: &[String]) -> (u32, bool) {
        (self.score.abs_diff(truth), self.expected != right)
    }
}

/// Two judgments of one answer and the verdict on them; `None` when the draw gave two that are not worth an example.
pub(crate) fn meta_example(
    puzzle: &Puzzle,
    answer: &[String],
    options: &TinyWorldOptions,
    draws: &mut Draws,
) -> Option<(Marks, Marks, String)> {
    let first = imperfect_marks(puzzle, answer, options.meta_taken_in, options, draws);
    let second = imperfect_marks(puzzle, answer, options.meta_taken_in, options, draws);
    if first.score == second.score && !draws.chance(options.meta_equal) {
        return None;
    }
    let truth = true_points(puzzle, answer, options);
    let right = puzzle.answer(options);
    let (a, b) = (first.badness(truth, &right), second.badness(truth, &right));
    let first_wins = if first.score != second.score && a.0 == b.0 {
        Some((first.score > second.score) == draws.chance(options.meta_prefers_high))
    } else if a == b {
        None
    } else {
        Some(a < b)
    };
    let wrong = draws.chance(options.meta_noise);
    let winner = match first_wins {
        None => "tie",
        Some(first_wins) if first_wins != wrong => "A",
        Some(_) => "B",
    };
    // The points deserved, then the scores of A and B: the nearer one can be read off.
    let verdict = format!("points {truth} A {} B {}\nwinner {winner}", first.score, second.score);
    Some((first, second, verdict))
}
