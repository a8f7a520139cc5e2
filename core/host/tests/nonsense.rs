//! Plugins that answer nonsense: the error names plugin, call and item, and says what was wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use metareward_api::{
    Battle, Candidate, Demonstration, DrawPlan, JudgeExample, Kind, Likelihood, Match, Message, MetaExample, MetaJudge,
    MetaJudgeItem, NextTokens, NoPair, Optimizer, PairLogProbs, Plugin, PluginError, PluginInfo, PositionWins,
    PreferenceLoss, Prompt, PromptId, Ranker, RankerPromises, RankingProblem, Rating, Remark, Rubric, RubricItem,
    Sampler, SamplerItem, Sampling, Scale, Selection, Selector, SelectorPromises, Task, Unreadable, VerdictSet,
    Weighed, WeightScope, Winner,
};
use metareward_host::Checked;

/// Answers whatever it was told to.
struct Fixed<T>(T);

impl<T: Send + Sync> Plugin for Fixed<T> {
    fn info(&self) -> PluginInfo {
        info(Kind::Ranker)
    }
}

fn info(kind: Kind) -> PluginInfo {
    PluginInfo { kind, name: "odd".into(), version: "0.0.0".into(), summary: String::new() }
}

/// The message of the error, with its item in front.
fn message<T: std::fmt::Debug>(answer: Result<T, PluginError>) -> String {
    answer.unwrap_err().to_string()
}

impl Ranker for Fixed<Vec<Rating>> {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        let likelihood = Likelihood { points: 1.0, regularization: f64::NAN, tie_share: 0.5 };
        Ok(RankerPromises { likelihood: Some(likelihood), ..RankerPromises::default() })
    }

    fn rate(&self, _: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        Ok(self.0.clone())
    }
}

#[test]
fn rankers() {
    let rate = |answers: Vec<(Vec<f64>, Vec<Remark>)>| {
        let rating = |(ratings, remarks)| Rating { ratings, converged: true, steps: 1, remarks };
        let ranker: Box<dyn Ranker> = Box::new(Fixed(answers.into_iter().map(rating).collect::<Vec<_>>()));
        let problem = |players| RankingProblem { players, battles: vec![] };
        Checked::new(info(Kind::Ranker), ranker).rate(&[problem(2), problem(1)])
    };
    let one = || (vec![1.0], vec![]);
    assert!(rate(vec![(vec![1.0, 2.0], vec![]), one()]).is_ok());
    assert_eq!(message(rate(vec![one()])), "ranker odd answered wrongly in rate: 1 answers to 2 items");
    assert_eq!(
        message(rate(vec![(vec![1.0, f64::NAN], vec![]), one()])),
        "item 0: ranker odd answered wrongly in rate: the rating of player 1 is NaN"
    );
    assert_eq!(
        message(rate(vec![(vec![1.0, 2.0], vec![]), (vec![], vec![])])),
        "item 1: ranker odd answered wrongly in rate: 0 ratings for 1 players"
    );
    assert_eq!(
        message(rate(vec![(vec![1.0, 2.0], vec![Remark::Winless(vec![2])]), one()])),
        "item 0: ranker odd answered wrongly in rate: remark `winless: [2]` about 2 players"
    );
    let ranker: Box<dyn Ranker> = Box::new(Fixed(Vec::<Rating>::new()));
    assert_eq!(
        message(Checked::new(info(Kind::Ranker), ranker).promises()),
        "ranker odd answered wrongly in promises: a likelihood with 1 points, regularisation NaN and tie share 0.5"
    );
}

impl Selector for Fixed<(&'static str, Result<Selection, NoPair>)> {
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        Ok(SelectorPromises { rho: Some(1.5), ..SelectorPromises::default() })
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        Ok(self.0.0.to_owned())
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        Ok(vec![self.0.1.clone(); groups.len()])
    }
}

#[test]
fn selectors() {
    let candidate = |characters| Candidate { score: 1.0, characters, tokens: 3, tie_break: 0 };
    let select = |unit, chosen, rejected, chosen_length| {
        let selection = Selection { chosen, rejected, chosen_length, rejected_length: 20 };
        let selector: Box<dyn Selector> = Box::new(Fixed((unit, Ok(selection))));
        Checked::new(info(Kind::Selector), selector).select(&[vec![candidate(10), candidate(20)]])
    };
    assert!(select("characters", 0, 1, 10).is_ok());
    for (answer, wrong) in [
        (select("characters", 1, 1, 20), "candidate 1 is both chosen and rejected"),
        (select("characters", 2, 1, 20), "candidate 2 of 2"),
        (select("characters", 0, 1, 11), "length 11 of candidate 0, which is 10"),
        (select("tokens", 0, 1, 10), "length 10 of candidate 0, which is 3"),
    ] {
        assert_eq!(message(answer), format!("item 0: selector odd answered wrongly in select: {wrong}"));
    }
    assert!(message(select("words", 0, 1, 10)).ends_with("\"words\" is neither \"characters\" nor \"tokens\""));
    let selector: Box<dyn Selector> = Box::new(Fixed(("tokens", Err(NoPair::EqualScores))));
    assert_eq!(
        message(Checked::new(info(Kind::Selector), selector).promises()),
        "selector odd answered wrongly in promises: rho 1.5 is not from 0 to 1"
    );
}

impl Sampler for Fixed<Sampling> {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        let plan = DrawPlan { sampling: self.0.clone(), seed_offset: 0 };
        Ok(items.iter().map(|_| vec![plan.clone()]).collect())
    }
}

#[test]
fn samplers() {
    let good = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 1, stop: vec![] };
    let plan = |sampling, draws| {
        let sampler: Box<dyn Sampler> = Box::new(Fixed(sampling));
        Checked::new(info(Kind::Sampler), sampler).plan(&[SamplerItem { characters: 1, draws }])
    };
    assert!(plan(good.clone(), 1).is_ok());
    for (answer, wrong) in [
        (plan(good.clone(), 2), "1 plans for 2 draws"),
        (plan(Sampling { temperature: f64::NAN, ..good.clone() }, 1), "temperature NaN is not a number from 0"),
        (plan(Sampling { top_p: 0.0, ..good.clone() }, 1), "top_p 0 is not above 0 and up to 1"),
        (plan(Sampling { min_p: 1.5, ..good.clone() }, 1), "min_p 1.5 is not from 0 to 1"),
        (plan(Sampling { top_k: Some(0), ..good.clone() }, 1), "top_k 0 leaves no token"),
        (plan(Sampling { max_tokens: 0, ..good.clone() }, 1), "max_tokens 0 leaves no answer"),
        (plan(Sampling { stop: vec![String::new()], ..good }, 1), "an empty stop text"),
    ] {
        assert_eq!(message(answer), format!("item 0: sampler odd answered wrongly in plan: {wrong}"));
    }
}

impl Sampler for Fixed<(Option<u32>, Vec<Vec<f64>>)> {
    fn plan(&self, _: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        Ok(vec![])
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        Ok(self.0.0)
    }

    fn reshape(&self, _: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        Ok(self.0.1.clone())
    }
}

#[test]
fn samplers_that_reshape() {
    let sampler = |most, rows: &[&[f64]]| {
        let sampler: Box<dyn Sampler> =
            Box::new(Fixed((most, rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())));
        Checked::new(info(Kind::Sampler), sampler)
    };
    let row = NextTokens { draw: 0, position: 0, tokens: vec![7, 9], logits: vec![1.0, 0.0] };
    let reshape = |rows: &[&[f64]]| sampler(Some(2), rows).reshape(&[row.clone(), row.clone()]);
    let good = [0.75, 0.25];
    assert!(reshape(&[&good, &[1.0, 0.0]]).is_ok());
    assert!(reshape(&[&good, &[1.0, 1e-7]]).is_ok());
    assert_eq!(message(reshape(&[&good])), "sampler odd answered wrongly in reshape: 1 answers to 2 items");
    for (bad, wrong) in [
        (&[1.0][..], "1 probabilities of 2 tokens"),
        (&[1.25, -0.25], "probability -0.25 is not a number from 0"),
        (&[f64::NAN, 1.0], "probability NaN is not a number from 0"),
        (&[0.75, 0.5], "probabilities that sum to 1.25, not to 1"),
    ] {
        assert_eq!(
            message(reshape(&[&good, bad])),
            format!("item 1: sampler odd answered wrongly in reshape: {wrong}")
        );
    }
    assert_eq!(sampler(Some(40), &[]).reshapes(), Ok(Some(40)));
    assert_eq!(
        message(sampler(Some(0), &[]).reshapes()),
        "sampler odd answered wrongly in reshapes: it reshapes, but wants to see no token"
    );
}

/// A rubric's answers: scale, conversation, score, reward.
type RubricAnswers = (Scale, Vec<Message>, Result<f64, Unreadable>, Option<f64>);

impl Rubric for Fixed<RubricAnswers> {
    fn scale(&self) -> Result<Scale, PluginError> {
        Ok(self.0.0)
    }

    fn criteria(&self) -> Result<String, PluginError> {
        Err(PluginError::new("no idea"))
    }

    fn compares(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        Ok(vec![self.0.1.clone(); items.len()])
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        Ok(vec![self.0.2; texts.len()])
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        Ok(vec![self.0.3; scores.len()])
    }
}

#[test]
fn rubrics() {
    let rubric = |max, messages, score, reward| {
        let rubric: Box<dyn Rubric> = Box::new(Fixed((Scale { min: 0.0, max }, messages, score, reward)));
        Checked::new(info(Kind::Rubric), rubric)
    };
    let good = rubric(5.0, vec![Message::user("?")], Ok(5.0), Some(1.0));
    let item = [RubricItem { prompt: "", response: "", opponent: None }];
    assert!(good.scale().is_ok() && good.render(&item).is_ok());
    assert_eq!(good.compares(), Ok(true));
    assert!(good.parse(&[""]).is_ok() && good.aggregate(&[vec![1.0]]).is_ok());
    assert_eq!(message(good.criteria()), "rubric odd failed in criteria: no idea");
    assert_eq!(
        message(good.aggregate(&[vec![1.0], vec![]])),
        "item 1: rubric odd answered wrongly in aggregate: reward 1 from no scores"
    );
    let bad = rubric(5.0, vec![Message::user("?"), Message::assistant("!")], Ok(5.25), Some(f64::INFINITY));
    assert_eq!(
        message(bad.render(&item)),
        "item 0: rubric odd answered wrongly in render: the last message is the assistant's, not the user's"
    );
    assert_eq!(
        message(bad.parse(&["a"])),
        "item 0: rubric odd answered wrongly in parse: score 5.25 is off the scale from 0 to 5"
    );
    assert_eq!(message(bad.aggregate(&[vec![1.0]])), "item 0: rubric odd answered wrongly in aggregate: reward inf");
    let worse = rubric(0.0, vec![], Ok(f64::NAN), None);
    assert_eq!(message(worse.scale()), "rubric odd answered wrongly in scale: a scale from 0 to 0");
    assert_eq!(
        message(worse.render(&item)),
        "item 0: rubric odd answered wrongly in render: a conversation without messages"
    );
}

impl MetaJudge for Fixed<(Match, Weighed)> {
    fn scope(&self) -> Result<WeightScope, PluginError> {
        Ok(WeightScope::Run)
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        Ok(vec![vec![self.0.0]; players.len()])
    }

    fn render(&self, _: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        Ok(vec![])
    }

    fn parse(&self, _: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        Ok(vec![])
    }

    fn weigh(&self, sets: &[VerdictSet], _: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        Ok(vec![self.0.1.clone(); sets.len()])
    }
}

#[test]
fn meta_judges() {
    let judge = |first, second, weight: f64, battles: Vec<Battle>| {
        let weighed = Weighed { weights: [weight, 0.5], battles };
        let judge: Box<dyn MetaJudge> = Box::new(Fixed((Match { first, second }, weighed)));
        Checked::new(info(Kind::MetaJudge), judge)
    };
    let weigh = |judge: &Checked<dyn MetaJudge>| {
        judge.weigh(&[VerdictSet { players: 2, verdicts: vec![] }], &[PositionWins::default()])
    };
    let battle = Battle { left: 0, right: 1, left_wins: 1.0, right_wins: 0.5, ties: 0.0 };
    let good = judge(0, 1, 0.5, vec![battle, battle]);
    assert!(good.schedule(&[2]).is_ok() && weigh(&good).is_ok());
    assert_eq!(message(good.parse(&["a"])), "meta-judge odd answered wrongly in parse: 0 answers to 1 items");
    for (first, second) in [(1, 1), (0, 2)] {
        assert_eq!(
            message(judge(first, second, 0.5, vec![]).schedule(&[3, 2])),
            format!(
                "item {}: meta-judge odd answered wrongly in schedule: a match of {first} against {second} among {} judgments",
                if first == second { 0 } else { 1 },
                if first == second { 3 } else { 2 }
            )
        );
    }
    for (judge, wrong) in [
        (judge(0, 1, f64::NAN, vec![battle]), "weight NaN is not a number from 0"),
        (judge(0, 1, 0.5, vec![battle, Battle { left_wins: -1.0, ..battle }]), "weight -1 is not a number from 0"),
        (judge(0, 1, 0.5, vec![Battle { right_wins: f64::INFINITY, ..battle }]), "weight inf is not a number from 0"),
        (judge(0, 1, 0.5, vec![Battle { ties: f64::NAN, ..battle }]), "weight NaN is not a number from 0"),
        (judge(0, 1, 0.5, vec![Battle { left: 1, ..battle }]), "a battle of 1 against 1 among 2 judgments"),
        (judge(0, 1, 0.5, vec![Battle { right: 2, ..battle }]), "a battle of 0 against 2 among 2 judgments"),
    ] {
        assert_eq!(message(weigh(&judge)), format!("item 0: meta-judge odd answered wrongly in weigh: {wrong}"));
    }
}

impl Optimizer for Fixed<PreferenceLoss> {
    fn needs_reference(&self) -> Result<bool, PluginError> {
        Ok(true)
    }

    fn loss_at_start(&self) -> Result<Option<f64>, PluginError> {
        Ok(Some(f64::NAN))
    }

    fn loss(&self, _: &[PairLogProbs]) -> Result<PreferenceLoss, PluginError> {
        Ok(self.0.clone())
    }
}

#[test]
fn optimizers() {
    let pair = PairLogProbs {
        policy_chosen: -1.0,
        policy_rejected: -1.0,
        reference_chosen: -1.0,
        reference_rejected: -1.0,
        chosen_tokens: 1,
        rejected_tokens: 1,
        weight: 1.0,
    };
    let loss = |losses: Vec<f64>, metric| {
        let optimizer: Box<dyn Optimizer> = Box::new(Fixed(PreferenceLoss {
            losses,
            chosen_gradient: vec![0.0],
            rejected_gradient: vec![0.0],
            chosen_rewards: vec![0.0],
            rejected_rewards: vec![0.0],
            metrics: BTreeMap::from([("m".to_owned(), metric)]),
        }));
        Checked::new(info(Kind::Optimizer), optimizer)
    };
    assert!(loss(vec![1.0], 0.0).loss(&[pair]).is_ok());
    let call = "optimizer odd answered wrongly in loss";
    assert_eq!(message(loss(vec![], 0.0).loss(&[pair])), format!("{call}: 0 losses for 1 pairs"));
    assert_eq!(message(loss(vec![f64::NAN], 0.0).loss(&[pair])), format!("item 0: {call}: NaN in losses"));
    assert_eq!(message(loss(vec![1.0], f64::INFINITY).loss(&[pair])), format!("{call}: metric m is inf"));
    assert_eq!(message(loss(vec![], 0.0).loss_at_start()), "optimizer odd answered wrongly in loss_at_start: loss NaN");
}

impl Task for Fixed<(Vec<&'static str>, f64)> {
    fn prompts(&self, _: u64, _: u32) -> Result<Vec<Prompt>, PluginError> {
        let prompt =
            |id: &&str| Prompt { id: PromptId((*id).to_owned()), text: "?".into(), system: None, category: None };
        Ok(self.0.0.iter().map(prompt).collect())
    }

    fn demonstrations(&self, seed: u64, n: u32) -> Result<Vec<Demonstration>, PluginError> {
        let empty = |prompt| Demonstration { prompt, response: " ".into() };
        Ok(self.prompts(seed, n)?.into_iter().map(empty).collect())
    }

    fn judge_examples(&self, _: u64, _: u32) -> Result<Vec<JudgeExample>, PluginError> {
        Err(PluginError::at(3, "no more"))
    }

    fn meta_examples(&self, _: u64, _: u32) -> Result<Vec<MetaExample>, PluginError> {
        Ok(vec![])
    }

    fn oracle(&self, items: &[(&Prompt, &str)]) -> Result<Option<Vec<f64>>, PluginError> {
        Ok(Some(vec![self.0.1; items.len()]))
    }

    fn oracle_scale(&self) -> Result<Option<Scale>, PluginError> {
        Ok(Some(Scale { min: 0.0, max: if self.0.0.is_empty() { f64::NAN } else { 5.0 } }))
    }

    fn perfect_answers(&self, _: &[&Prompt]) -> Result<Option<Vec<String>>, PluginError> {
        Ok(Some(vec!["perfect".into()]))
    }
}

#[test]
fn tasks() {
    let task = |ids, points| {
        let task: Box<dyn Task> = Box::new(Fixed((ids, points)));
        Checked::new(info(Kind::Task), task)
    };
    let good = task(vec!["a", "b"], 5.0);
    let prompts = good.prompts(0, 2).unwrap();
    assert!(good.oracle(&[(&prompts[0], "")]).is_ok());
    assert_eq!(
        message(good.prompts(0, 1)),
        "task odd answered wrongly in prompts: 2 records where at most 1 were asked for"
    );
    assert_eq!(
        message(good.demonstrations(0, 2)),
        "item 0: task odd answered wrongly in demonstrations: empty response"
    );
    assert_eq!(message(good.judge_examples(0, 2)), "item 3: task odd failed in judge_examples: no more");
    assert_eq!(
        message(task(vec!["a", "a"], 5.0).prompts(0, 2)),
        "item 1: task odd answered wrongly in prompts: a second prompt named \"a\""
    );
    assert_eq!(
        message(task(vec!["a"], f64::NAN).oracle(&[(&prompts[0], "")])),
        "item 0: task odd answered wrongly in oracle: NaN points"
    );
    assert_eq!(
        message(task(vec!["a"], 6.0).oracle(&[(&prompts[0], "")])),
        "item 0: task odd answered wrongly in oracle: 6 points, off the scale from 0 to 5"
    );
    assert_eq!(
        message(task(vec![], 5.0).oracle_scale()),
        "task odd answered wrongly in oracle_scale: a scale from 0 to NaN"
    );
    assert!(good.perfect_answers(&[&prompts[0]]).is_ok());
    assert_eq!(
        message(good.perfect_answers(&[&prompts[0], &prompts[1]])),
        "task odd answered wrongly in perfect_answers: 1 answers to 2 items"
    );
}
