//! The page in a headless Chromium: hostile texts stay texts, phones need no scrolling to the side, many prompts open at
//! once. Without Chromium these tests say so and do nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chromium;
mod runs;

use std::{fs, path::Path};

use chromium::Chromium;
use metareward_eval::Bootstrap;
use metareward_report::{Figures, Options, report};
use metareward_runtime::{Fingerprint, RunReader};
use serde_json::{Value, json};

fn write(run: &Path, page: &Path) {
    let options = Options { bootstrap: Bootstrap { draws: 50, ..Bootstrap::default() }, ..Options::default() };
    report(&[RunReader::open(run).unwrap()], page, &options).unwrap();
}

fn figures(page: &Path) -> Figures {
    serde_json::from_str(runs::content(&fs::read_to_string(page).unwrap(), "figures")).unwrap()
}

/// Opens every prompt of every place, unfolds all of it, and calls `each`.
fn walk(browser: &mut Chromium, mut each: impl FnMut(&mut Chromium)) {
    let places = browser.value("document.querySelectorAll('#browse select')[0].options.length").as_u64().unwrap();
    for place in 0..places {
        browser.value(&format!(
            "(() => {{ const select = document.querySelectorAll('#browse select')[0]; select.value = {place}; \
             document.querySelector('.opened').replaceChildren(); select.dispatchEvent(new Event('change')); }})()"
        ));
        browser.wait("document.querySelector('.opened .answer') !== null");
        let prompts = browser.value("document.querySelectorAll('.list li').length").as_u64().unwrap();
        assert!(prompts > 0);
        for prompt in 0..prompts {
            browser.value(&format!(
                "(() => {{ document.querySelector('.opened').replaceChildren(); \
                 document.querySelectorAll('.list li button')[{prompt}].click(); }})()"
            ));
            browser.wait("document.querySelector('.opened .answer') !== null");
            browser.unfold();
            each(browser);
        }
    }
}

#[test]
fn hostile_texts_are_shown_and_run_nothing() {
    let Some(mut browser) = Chromium::start(1200, 900) else { return };
    let lab = runs::scripted_run(&[]);
    runs::give_points(&lab.run_folder(), |model, _, _| model as f64);
    runs::taint(&lab.run_folder());
    let page = lab.root.path().join("report.html");
    write(&lab.run_folder(), &page);
    browser.open(&page);
    let address = browser.value("location.href.split('#')[0]");
    let scripts = browser.value("document.scripts.length");
    let mut seen = String::new();
    walk(&mut browser, |browser| {
        seen.push_str(browser.value("document.body.textContent").as_str().unwrap());
        // What the texts would have made, had one been read as markup.
        let made = "document.querySelectorAll('img, iframe, base, object, embed, link, svg script, main style, [onload], [onerror], \
                    meta[http-equiv=refresh]').length";
        assert_eq!(browser.value(made), json!(0));
    });
    assert_eq!(browser.value("typeof window.broken"), json!("undefined"));
    assert_eq!(browser.value("document.scripts.length"), scripts);
    assert_eq!(browser.value("location.href.split('#')[0]"), address);
    assert_eq!(browser.value("getComputedStyle(document.body).display"), json!("block"));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);

    // Every text is there, letter by letter, with what hides or turns letters as pictures and numbers.
    let picture = |letter: char| match u32::from(letter) {
        0x7f => "\u{2421}".into(),
        code @ (0x9 | 0xa) => char::from_u32(code).unwrap().to_string(),
        code if code < 0x20 => char::from_u32(0x2400 + code).unwrap().to_string(),
        code @ (0xad | 0x200b | 0x200f | 0x2028 | 0x2029 | 0x202c | 0x202e | 0x2066 | 0x2069 | 0xfeff) => {
            format!("U+{code:04X}")
        }
        code @ 0xe0000..=0xe007f => format!("U+{code:X}"),
        _ => letter.to_string(),
    };
    for text in runs::HOSTILE {
        let shown: String = text.chars().map(picture).collect();
        assert!(seen.contains(&shown), "{shown} is not shown");
    }
    for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{7}', '\u{1b}', '\u{e0041}', '\u{2028}'] {
        let quoted = serde_json::to_string(&hidden.to_string()).unwrap();
        let in_page = browser.value(&format!("document.querySelector('main').textContent.includes({quoted})"));
        assert_eq!(in_page, json!(false), "{hidden:?} stands in the page as it is");
    }
}

#[test]
fn the_page_may_load_and_run_nothing_else() {
    let Some(mut browser) = Chromium::start(1200, 900) else { return };
    let lab = runs::scripted_run(&[]);
    let page = lab.root.path().join("report.html");
    write(&lab.run_folder(), &page);
    browser.open(&page);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    // A script that gets in all the same is stopped by the policy, and so is anything that is to be fetched.
    browser.value("(() => { const one = document.createElement('script'); one.textContent = 'window.broken = 1'; document.body.append(one); })()");
    browser.value("document.body.setAttribute('onclick', 'window.broken = 2')");
    browser.value("document.body.click()");
    assert_eq!(browser.value("typeof window.broken"), json!("undefined"));
    assert_eq!(browser.value("fetch('data:text/plain,x').then(() => 'came', () => 'refused')"), json!("refused"));
    let image = "new Promise((done) => { const one = new Image(); one.onload = () => done('came'); one.onerror = () => done('refused'); \
                 one.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=='; })";
    assert_eq!(browser.value(image), json!("refused"));
    assert!(browser.complaints.iter().any(|complaint| complaint.contains("Content Security Policy")));
}

#[test]
fn a_phone_needs_no_scrolling_to_the_side() {
    let Some(mut browser) = Chromium::start(390, 844) else { return };
    let lab = runs::scripted_run(&[]);
    // With an oracle, for all figures, and with the hostile texts: one of them is a word that is wider than the screen.
    runs::give_points(&lab.run_folder(), |model, prompt, draw| ((model + prompt) as f64 + f64::from(draw)) % 6.0);
    runs::taint(&lab.run_folder());
    let page = lab.root.path().join("report.html");
    write(&lab.run_folder(), &page);
    browser.open(&page);
    let wide = "[document.documentElement.scrollWidth, ...[...document.querySelectorAll('section, header, nav')].map((one) => one.getBoundingClientRect().right)]";
    let check = |browser: &mut Chromium| {
        let widths = browser.value(wide);
        assert!(widths.as_array().unwrap().iter().all(|width| width.as_f64().unwrap() <= 390.5), "{widths}");
    };
    check(&mut browser);
    walk(&mut browser, check);
}

#[test]
fn figures_lead_to_the_texts_behind_them() {
    let Some(mut browser) = Chromium::start(1200, 900) else { return };
    let lab = runs::scripted_run(&[]);
    let page = lab.root.path().join("report.html");
    write(&lab.run_folder(), &page);
    browser.open(&page);
    // A bar of the score histogram lists the prompts with such a score, and the list holds no others.
    let pressed = browser.value(
        "(() => { const bar = [...document.querySelectorAll('#scores svg rect[cursor=pointer]')].at(-1); \
         bar.dispatchEvent(new MouseEvent('click', { bubbles: true })); return true; })()",
    );
    assert_eq!(pressed, json!(true));
    browser.wait("document.querySelectorAll('#browse select')[1].value.startsWith('score:')");
    browser.wait("document.querySelector('.opened .answer') !== null");
    // Hovering shows the numbers.
    browser.value(
        "(() => { const bar = document.querySelector('#scores svg rect[cursor=pointer]'); \
         bar.dispatchEvent(new PointerEvent('pointermove', { clientX: 50, clientY: 50 })); })()",
    );
    let tip = browser.value("document.getElementById('tip').textContent");
    assert!(tip.as_str().unwrap().contains("judgments"), "{tip}");
    // Numbers are rounded as the sentences about them are.
    let table = figures(&page).runs.swap_remove(0).table;
    for (place, column) in table.columns.iter().enumerate() {
        for row in &table.rows {
            let Some(cell) = row.cells[place] else { continue };
            let shown = column.show(cell.value).replace('-', "−");
            let cells = browser
                .value("[...document.querySelectorAll('#models td')].map((cell) => cell.firstChild.textContent)");
            assert!(cells.as_array().unwrap().contains(&json!(shown)), "{shown} of {} is not shown", column.heading);
        }
    }
    // An address opens the prompt that it names.
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let verdict = run.verdicts(2).unwrap().next().unwrap().unwrap();
    let address = format!("file://{}?again#run=0&place=iteration-2&prompt={}", page.display(), verdict.prompt);
    browser.send("Page.navigate", json!({ "url": address }));
    let opened =
        format!("document.querySelector('.opened')?.textContent.startsWith('Prompt {}') === true", verdict.prompt);
    browser.wait(&opened);
    browser.unfold();
    let text = browser.value("document.querySelector('.opened').textContent");
    let text = text.as_str().unwrap();
    for part in [
        "Actor pair",
        "Judge pair",
        "Length control with rho",
        "Battles between the judgments",
        &verdict.text.replace('\n', ""),
    ] {
        assert!(text.replace('\n', "").contains(part), "{part} is missing");
    }
}

#[test]
fn a_run_that_has_come_only_so_far_is_drawn() {
    let Some(mut browser) = Chromium::start(1200, 900) else { return };
    let lab = runs::scripted_run(&["meta_judge.pairs=false"]);
    let page = lab.root.path().join("report.html");
    // From a finished run back to one that has its prompts and nothing else.
    let steps: [&[&str]; 5] = [
        &[],
        &["evaluation/M2", "iteration-2/training", "iteration-2/pairs", "iteration-2/unpaired"],
        &["iteration-2", "evaluation/seed", "evaluation/M1", "sft", "events.jsonl"],
        &["evaluation/sft", "iteration-1/judgments", "iteration-1/pairs", "iteration-1/unpaired"],
        &["evaluation", "iteration-1/responses"],
    ];
    for gone in steps {
        for name in gone {
            let path = lab.run_folder().join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        write(&lab.run_folder(), &page);
        browser.send("Page.navigate", json!({ "url": "about:blank" }));
        browser.send("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        browser.wait("document.documentElement?.dataset.ready === 'yes'");
        browser.wait("document.querySelector('.opened')?.textContent.startsWith('Prompt p') === true");
        browser.unfold();
        assert!(browser.complaints.is_empty(), "without {gone:?}: {:?}", browser.complaints);
    }
}

/// Repeats the records of a run's first iteration under other names, until there are so many prompts.
fn multiply(run: &Path, prompts: usize) {
    for entry in fs::read_dir(run.join("iteration-1")).unwrap() {
        let folder = entry.unwrap().path();
        let stage = folder.join("stage.json");
        let Ok(text) = fs::read_to_string(&stage) else { continue };
        let mut record: Value = serde_json::from_str(&text).unwrap();
        let shards = record["shards"].as_array().unwrap().clone();
        if shards.is_empty() || folder.ends_with("reference") {
            continue;
        }
        let texts: Vec<String> = shards
            .iter()
            .map(|shard| fs::read_to_string(folder.join(shard["file"].as_str().unwrap())).unwrap())
            .collect();
        let mut new = Vec::new();
        for copy in 0..prompts / 4 {
            for (shard, text) in shards.iter().zip(&texts) {
                let file = format!("copy-{copy}-{}", shard["file"].as_str().unwrap());
                let renamed = text
                    .replace("\"prompt\":\"p", &format!("\"prompt\":\"c{copy}-p"))
                    .replace("\"id\":\"p", &format!("\"id\":\"c{copy}-p"));
                fs::write(folder.join(&file), renamed).unwrap();
                let mut shard = shard.clone();
                shard["file"] = json!(file);
                shard["blake3"] = json!(Fingerprint::of_bytes(file.as_bytes()));
                new.push(shard);
            }
        }
        record["shards"] = json!(new);
        fs::write(&stage, record.to_string()).unwrap();
    }
}

#[test]
fn five_thousand_prompts_open() {
    let Some(mut browser) = Chromium::start(1200, 900) else { return };
    let lab = runs::scripted_run(&[]);
    multiply(&lab.run_folder(), 5000);
    let page = lab.root.path().join("report.html");
    write(&lab.run_folder(), &page);
    let took = browser.open(&page);
    println!(
        "5,000 prompts, {:.1} MB: {took:?} to the figures and the first prompt",
        fs::metadata(&page).unwrap().len() as f64 / 1e6
    );
    assert_eq!(browser.value("document.querySelector('.pager').textContent"), json!("←1–50 of 5,000→"));
    // The last one of them is found and opened.
    let last = "(() => { const search = document.querySelector('#browse input'); search.value = 'c1249-p'; search.dispatchEvent(new Event('input')); \
                return document.querySelectorAll('.list li').length; })()";
    assert_eq!(browser.value(last), json!(4));
    browser.wait("document.querySelector('.opened').textContent.startsWith('Prompt c1249-p')");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
