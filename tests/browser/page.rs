//! The chat page at `/`, as a person uses it.

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::chat::{
    ANSWER, BEGUN, ENDED, ask, assert_no_complaints, assert_true, conversation, demo, history, open, until_found,
};
use crate::support::{Browser, Gate, Scene, Script};

#[tokio::test]
async fn it_asks_and_shows_text_steps_sources_and_tables_and_again_after_a_reload() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Think, and show me a table.").await;
    browser.until("the answer to end", ENDED).await;
    let saved = assert_true(&browser, &scene.client).await;
    let outline = "return {
        asked: [...document.querySelectorAll('article.user .text')].map((asked) => asked.textContent),
        steps: [...document.querySelectorAll('.steps li')].length,
        nested: [...document.querySelectorAll('.steps li li li')].length,
        reasoning: document.querySelector('.reasoning').textContent.length,
        links: [...document.querySelectorAll('.sources a')].map((link) => [link.querySelector('.name').textContent, link.href]),
        rows: document.querySelectorAll('table tbody tr').length,
        ends: document.querySelectorAll('.end').length,
        stop: document.getElementById('stop').hidden,
    }";
    let shown = browser.js(outline).await;
    let links: Vec<Value> =
        saved["sources"].as_array().unwrap().iter().map(|source| json!([source["title"], source["url"]])).collect();
    assert!(links.len() >= 2);
    assert_eq!(shown["links"], json!(links));
    assert_eq!(shown["asked"], json!(["Think, and show me a table."]));
    assert_eq!((&shown["steps"], &shown["nested"], &shown["rows"]), (&json!(6), &json!(3), &json!(6)));
    assert_eq!((&shown["ends"], &shown["stop"]), (&json!(0), &json!(true)));
    assert_ne!(shown["reasoning"], 0);
    let usage = browser.js("return document.querySelector('article.bot .foot .usage').textContent").await;
    let tokens = |of: &str| saved["usage"][of].to_string();
    let due = format!("{} + {} tokens · $0.00", tokens("prompt_tokens"), tokens("completion_tokens"));
    assert_eq!(usage, due, "what it used, and what the demo costs");

    browser.page.refresh().await.unwrap();
    browser.until("the history", ENDED).await;
    assert_eq!(browser.js(outline).await, shown);
    assert_true(&browser, &scene.client).await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_stops_and_starts_anew() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Slow and long, please.").await;
    browser.until("the answer to begin", BEGUN).await;
    browser.page.find(Locator::Id("stop")).await.unwrap().click().await.unwrap();
    browser.until("the answer to end", ENDED).await;
    let saved = assert_true(&browser, &scene.client).await;
    assert_eq!((&saved["status"], &saved["stopped_by"]), (&json!("stopped"), &json!("request")));

    browser.page.find(Locator::Id("new")).await.unwrap().click().await.unwrap();
    browser.until("an empty page", "return document.querySelectorAll('article').length === 0").await;
    ask(&browser, "Hello!").await;
    browser.until("its answer", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "completed");
    assert_eq!(scene.client.get("/v1/conversations").await.expect(200)["data"].as_array().unwrap().len(), 2);
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// Markup that says so if it ever runs.
const EVIL: &str = r#"<img src=x onerror="window.ran=1"><script>window.ran=1</script><svg onload="window.ran=1">"#;

#[tokio::test]
async fn nothing_that_is_said_runs() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().role().reasoning(EVIL).delta(EVIL).delta("]]><b>").finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, EVIL).await;
    browser.until("the answer to end", ENDED).await;
    assert_eq!(browser.js(ANSWER).await, format!("{EVIL}]]><b>"));
    assert_harmless(&browser).await;

    // What no upstream of ours says in a source, a step or a table may still stand in a record.
    let quoted = serde_json::to_string(EVIL).unwrap();
    let sources = format!(
        r#"[{{"source_id":"src_1","number":1,"title":{quoted},"url":"javascript:window.ran=1","snippet":{quoted},"score":1}},
            {{"source_id":"src_2","number":2,"title":{quoted},"url":"https://example.com/\"><script>","snippet":"","score":1}}]"#
    );
    let steps = format!(
        r#"[{{"step_id":"step_1","kind":"tool","label":{quoted},"status":"ok","output":{quoted},"duration_ms":1}}]"#
    );
    let tables = format!(
        r#"[{{"visualization_id":"vis_1","kind":"table","title":{quoted},"spec":{{"columns":[{{"key":"a","label":{quoted},
            "type":"string"}}],"rows":[{{"a":{quoted}}}]}}}}]"#
    );
    let sql = format!(
        "update messages set sources = '{sources}', steps = '{steps}', visualizations = '{tables}' \
         where role = 'assistant'"
    );
    scene.database.run(&sql).await;
    browser.page.refresh().await.unwrap();
    browser.until("the history", "return document.querySelectorAll('.sources li').length === 2").await;
    let outline = "return [document.querySelector('.sources').textContent,
        document.querySelector('.steps .label').textContent.includes('onerror'), document.querySelector('td').textContent]";
    assert_eq!(browser.js(outline).await, json!([format!("1{EVIL}2{EVIL}"), true, EVIL]));
    assert_harmless(&browser).await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// Nothing ran, nothing of it became an element, and no link leads into the page.
async fn assert_harmless(browser: &Browser) {
    let found = "return { ran: window.ran ?? null,
        elements: document.querySelectorAll('#log img, #log script, #log svg, #log b').length,
        links: [...document.querySelectorAll('#log a')].map((link) => link.protocol).filter((it) => it !== 'https:') }";
    assert_eq!(browser.js(found).await, json!({"ran": null, "elements": 0, "links": []}));
}

/// The titles in the list.
const TITLES: &str = "return [...document.querySelectorAll('.items a')].map((link) => link.textContent)";

#[tokio::test]
async fn conversations_are_found_renamed_and_deleted() {
    let browser = Browser::start().await;
    let scene = demo().await;
    for title in ["Spring tides", "Moons", "Neap TIDES", EVIL] {
        scene.client.post("/v1/conversations", &json!({"title": title})).await.expect(201);
    }
    open(&browser, &scene.gateway.url()).await;
    browser.until("the list", "return document.querySelectorAll('.items a').length === 4").await;
    assert_eq!(browser.js(TITLES).await, json!([EVIL, "Neap TIDES", "Moons", "Spring tides"]));
    until_found(&scene.client, "tides", 2).await;
    let search = browser.page.find(Locator::Id("search")).await.unwrap();
    search.send_keys("tides").await.unwrap();
    browser.until("what was found", "return document.querySelectorAll('.items a').length === 2").await;
    assert_eq!(browser.js(TITLES).await, json!(["Neap TIDES", "Spring tides"]));

    // By keyboard alone: a double title is given up, a new one is kept.
    let tool = |name: &str| format!("[aria-label=\"{name}\"]");
    browser.page.find(Locator::Css(&tool("Rename: Spring tides"))).await.unwrap().click().await.unwrap();
    let field = browser.page.find(Locator::Css(".items input")).await.unwrap();
    field.send_keys(&format!("Ebb tides{}", char::from(Key::Enter))).await.unwrap();
    browser.until("its new title", &format!("return (() => {{ {TITLES} }})().includes('Ebb tides')")).await;
    browser.page.find(Locator::LinkText("Ebb tides")).await.unwrap().click().await.unwrap();
    browser.until("its name on top", "return document.getElementById('title').textContent === 'Ebb tides'").await;

    browser.page.find(Locator::Css(&tool("Delete: Ebb tides"))).await.unwrap().click().await.unwrap();
    browser.page.find(Locator::Css("dialog .danger")).await.unwrap().click().await.unwrap();
    browser.until("the rest", "return document.querySelectorAll('.items a').length === 1").await;
    browser.until("another page", "return location.hash === ''").await;
    let left = scene.client.get("/v1/conversations").await.expect(200);
    let left: Vec<&Value> = left["data"].as_array().unwrap().iter().map(|it| &it["title"]).collect();
    assert_eq!(json!(left), json!([EVIL, "Neap TIDES", "Moons"]));
    assert_harmless(&browser).await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn an_answer_that_failed_can_be_asked_for_again_and_stays() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().role().stamped(3));
    scene.upstream.push(Script::new().role().stamped(9).finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "go").await;
    browser.until("the answer to break off", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "truncated");
    // Twice, as a hand does that is used to it: it is one question.
    browser.js("const again = document.querySelector('button.again'); again.click(); again.click()").await;
    browser.until("two answers", "return document.querySelector('.bot .siblings')?.textContent.includes('2/2')").await;
    browser.until("the second to end", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "completed");
    let asked = history(&browser, &scene.client).await;
    assert_eq!((asked.len(), &asked[1]["parent_id"], &asked[2]["parent_id"]), (3, &asked[0]["id"], &asked[0]["id"]));
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// Whether the switcher of the last message of that kind says so.
fn at(kind: &str, place: &str) -> String {
    format!(
        "return [...document.querySelectorAll('article.{kind}')].at(-1).querySelector('.siblings')?.textContent.includes('{place}')"
    )
}

#[tokio::test]
async fn answers_and_questions_have_siblings_and_the_page_goes_from_one_to_another() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    for answer in ["one", "two", "two again", "otherwise", "after all"] {
        scene.upstream.push(Script::answer(&[answer]));
    }
    open(&browser, &scene.gateway.url()).await;
    for (question, count) in [("first", 1), ("second", 2)] {
        ask(&browser, question).await;
        browser.until("it", &format!("return document.querySelectorAll('article.bot').length === {count}")).await;
        browser.until("its end", ENDED).await;
    }
    browser.js("[...document.querySelectorAll('button.again')].at(-1).click()").await;
    browser.until("another answer", &at("bot", "2/2")).await;
    browser.until("its end", ENDED).await;
    assert_eq!(browser.js(ANSWER).await, "two again");
    browser.js("[...document.querySelectorAll('.siblings button')].at(-2).click()").await;
    assert_eq!(browser.js(ANSWER).await, "two");
    assert_eq!(browser.js("return document.activeElement.closest('.siblings') !== null").await, true);
    // A question asked otherwise stands beside the old one.
    browser.js("[...document.querySelectorAll('.edit')].at(-1).click()").await;
    let field = browser.page.find(Locator::Id("message")).await.unwrap();
    field.send_keys(&format!(", please{}", char::from(Key::Enter))).await.unwrap();
    browser.until("another question", &at("user", "2/2")).await;
    browser.until("its end", ENDED).await;
    assert_eq!(browser.js(ANSWER).await, "otherwise");
    let asked = history(&browser, &scene.client).await;
    let of = |content: &str| asked.iter().find(|message| message["content"] == content).unwrap().clone();
    assert_eq!(of("second, please")["parent_id"], of("second")["parent_id"]);
    // What is asked on an old branch goes on there, also after a reload has shown the newest.
    browser.js("[...document.querySelectorAll('article.user')].at(-1).querySelector('.siblings button').click()").await;
    browser.until("the old branch", &format!("{ANSWER} === 'two again'")).await;
    ask(&browser, "third").await;
    browser.until("it there", &format!("{ANSWER} === 'after all'")).await;
    let asked = history(&browser, &scene.client).await;
    let of = |content: &str| asked.iter().find(|message| message["content"] == content).unwrap().clone();
    assert_eq!(of("third")["parent_id"], of("two again")["id"]);
    browser.page.refresh().await.unwrap();
    browser.until("all of it", "return document.querySelectorAll('article').length === 6").await;
    assert_eq!(browser.js(ANSWER).await, "after all");
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn conversations_are_archived_and_fetched_back_and_matches_are_marked() {
    let browser = Browser::start().await;
    let scene = demo().await;
    for title in ["Spring tides", "Moons"] {
        scene.client.post("/v1/conversations", &json!({"title": title})).await.expect(201);
    }
    open(&browser, &scene.gateway.url()).await;
    browser.until("the list", "return document.querySelectorAll('.items a').length === 2").await;
    let tool = |name: &str| format!("[aria-label=\"{name}\"]");
    browser.page.find(Locator::Css(&tool("Archive: Moons"))).await.unwrap().click().await.unwrap();
    browser.until("one less", "return document.querySelectorAll('.items a').length === 1").await;
    browser.page.find(Locator::Css(".toggle")).await.unwrap().click().await.unwrap();
    browser.until("both", "return document.querySelectorAll('.items a').length === 2").await;
    browser.page.find(Locator::Css(&tool("Fetch back: Moons"))).await.unwrap().click().await.unwrap();
    browser.until("it back", "return document.querySelectorAll('.items .away').length === 0").await;
    until_found(&scene.client, "spri", 1).await;
    browser.page.find(Locator::Id("search")).await.unwrap().send_keys("spri").await.unwrap();
    browser.until("its mark", "return document.querySelector('.items mark')?.textContent === 'Spring'").await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn the_list_that_covers_a_narrow_page_goes_away_again() {
    let scene = demo().await;
    let browser = Browser::start().await;
    browser.resize(360, 740).await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Hello!").await;
    conversation(&browser).await;
    let shown = "return getComputedStyle(document.getElementById('side')).display !== 'none'";
    for close in [
        "document.elementFromPoint(...middle(document.getElementById('menu'))).click()",
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }))",
        "document.elementFromPoint(innerWidth - 10, innerHeight / 2).click()",
        "document.querySelector('#list a').click()",
        "document.getElementById('new').click()",
        "document.getElementById('new').click()",
    ] {
        browser.js("document.getElementById('menu').click()").await;
        assert_eq!(browser.js(shown).await, true, "before {close}");
        let middle = "const middle = (at) => { const box = at.getBoundingClientRect(); \
            return [box.x + box.width / 2, box.y + box.height / 2]; };";
        browser.js(&format!("{middle} {close}")).await;
        assert_eq!(browser.js(shown).await, false, "after {close}");
        assert_eq!(browser.js("return document.getElementById('menu').ariaExpanded").await, "false");
    }
    browser.close().await;
}

#[tokio::test]
async fn a_long_conversation_comes_by_pages_in_its_order() {
    const TURNS: usize = 60;
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    scene.upstream.always(Script::answer(&["It ", "rains."]));
    let conversation = scene.client.conversation().await;
    for turn in 0..TURNS {
        let path = format!("/v1/conversations/{conversation}/messages");
        scene.client.post(&path, &json!({"content": format!("question {turn}")})).await.expect(200);
    }
    open(&browser, &format!("{}/#{conversation}", scene.gateway.url())).await;
    let asked = "return [...document.querySelectorAll('article.user .text')].map((asked) => asked.textContent)";
    for pages in 1..=3 {
        let shown = (25 * pages).min(TURNS);
        let count = format!("return document.querySelectorAll('article.bot').length === {shown}");
        browser.until("a page", &count).await;
        browser
            .until(
                "its answers",
                "return [...document.querySelectorAll('.bot .text')].every((text) => text.textContent === 'It rains.')",
            )
            .await;
        let expected: Vec<String> = (TURNS - shown..TURNS).map(|turn| format!("question {turn}")).collect();
        assert_eq!(browser.js(asked).await, json!(expected));
        assert_true(&browser, &scene.client).await;
        if shown < TURNS {
            browser.page.find(Locator::Css("button.earlier")).await.unwrap().click().await.unwrap();
        }
    }
    assert_eq!(browser.js("return document.querySelectorAll('button.earlier').length").await, 0);
    // What was asked last comes back to be asked otherwise.
    let field = browser.page.find(Locator::Id("message")).await.unwrap();
    field.send_keys(&String::from(char::from(Key::Up))).await.unwrap();
    assert_eq!(browser.js("return document.getElementById('message').value").await, "question 59");
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn keys_do_what_a_writer_expects() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    // The Enter that ends a composition sends nothing: not as standards have it, and not as Safari has it.
    let composed = "const box = document.getElementById('message');
        box.value = 'かな';
        const key = (more) => box.dispatchEvent(new KeyboardEvent('keydown',
            { key: 'Enter', bubbles: true, cancelable: true, ...more }));
        return [key({ isComposing: true }), key({ keyCode: 229 }), document.querySelectorAll('article').length, box.value]";
    assert_eq!(browser.js(composed).await, json!([true, true, 0, "かな"]));
    browser.js("document.getElementById('message').value = ''").await;
    let field = browser.page.find(Locator::Id("message")).await.unwrap();
    let [shift, enter, up, null] = [Key::Shift, Key::Enter, Key::Up, Key::Null].map(char::from);
    field.send_keys(&format!("Slow and long,{shift}{enter}{null}please.")).await.unwrap();
    assert_eq!(browser.js("return document.getElementById('message').value").await, "Slow and long,\nplease.");
    field.send_keys(&String::from(enter)).await.unwrap();
    browser.until("the answer to begin", BEGUN).await;
    field.send_keys(&String::from(char::from(Key::Escape))).await.unwrap();
    browser.until("the answer to end", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "stopped");
    field.send_keys(&String::from(up)).await.unwrap();
    assert_eq!(browser.js("return document.getElementById('message').value").await, "Slow and long,\nplease.");
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn whoever_scrolls_up_is_left_there_and_can_come_back() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let [first, second] = [Gate::new(), Gate::new()];
    let line = "a line of an answer\n".repeat(200);
    let script = Script::new().role().delta(&line).gate(&first).delta(&line).gate(&second).delta("end");
    scene.upstream.push(script.finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "go").await;
    let below = "const log = document.getElementById('log');
        return log.scrollHeight > 3000 && log.scrollHeight - log.scrollTop - log.clientHeight < 5";
    browser.until("the end to be in sight", below).await;
    browser.js("document.getElementById('log').scrollTop = 100").await;
    browser.until("a way back", "return !document.getElementById('latest').hidden").await;
    first.open();
    browser.until("the second half", &format!("{ANSWER}.length === {}", 2 * line.len())).await;
    assert_eq!(browser.js("return document.getElementById('log').scrollTop").await, 100);
    browser.page.find(Locator::Id("latest")).await.unwrap().click().await.unwrap();
    browser.until("the end to be in sight", below).await;
    second.open();
    browser.until("the answer to end", ENDED).await;
    browser.until("the end to be in sight still", below).await;
    browser.close().await;
}

#[tokio::test]
async fn lines_and_fences_are_kept_however_they_come() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let text = "One\n\nTwo\n```rust\nfn main() {\n\n}\n```\nThree ``` four\n~~~\nopen";
    let script = text.chars().fold(Script::new().role(), |script, character| script.delta(&character.to_string()));
    scene.upstream.push(script.finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "go").await;
    browser.until("the answer to end", ENDED).await;
    assert_true(&browser, &scene.client).await;
    let blocks =
        "return [...document.querySelectorAll('.bot .block')].map((block) => [block.tagName, block.textContent])";
    let shown = json!([
        ["DIV", "One\n\n"],
        ["DIV", "Two\n"],
        ["PRE", "```rust\nfn main() {\n\n}\n```\n"],
        ["DIV", "Three ``` four\n"],
        ["PRE", "~~~\nopen"]
    ]);
    assert_eq!(browser.js(blocks).await, shown);
    browser.page.refresh().await.unwrap();
    browser.until("the answer again", ENDED).await;
    browser.until("all of it", &format!("{ANSWER}.endsWith('open')")).await;
    assert_eq!(browser.js(blocks).await, shown);
    browser.close().await;
}

#[tokio::test]
async fn another_page_can_ask_by_the_module_alone_and_folds_what_is_saved() {
    let browser = Browser::start().await;
    let scene = demo().await;
    browser.page.goto(&format!("{}/healthz", scene.gateway.url())).await.unwrap();
    let asking = "const done = arguments[0];
        import('/client.js').then(async ({ Client }) => {
            const seen = [];
            const message = await new Client().ask({ sessionId: 'page', content: 'Think, and show me a chart.',
                onEvent: (event) => seen.push(event.type) });
            done({ message, seen });
        }).catch((error) => done(String(error)))";
    let mut asked = browser.page.execute_async(asking, Vec::new()).await.unwrap();
    let id = asked["message"]["turn_id"].as_str().unwrap_or_else(|| panic!("{asked}"));
    let mut saved = scene.client.get(&format!("/v1/turns/{id}")).await.expect(200)["message"].clone();
    // What only the record knows, and what only events say.
    for key in ["conversation_id", "parent_id", "role", "created_at", "metadata"] {
        saved.as_object_mut().unwrap().remove(key);
    }
    for list in ["steps", "sources", "visualizations"] {
        for event in asked["message"][list].as_array_mut().unwrap() {
            for key in ["seq", "type"] {
                event.as_object_mut().unwrap().remove(key);
            }
        }
    }
    asked["message"].as_object_mut().unwrap().remove("saved");
    assert_eq!(asked["message"], saved);
    assert_eq!(asked["seen"][0], "turn.started");
    browser.close().await;
}

#[tokio::test]
async fn charts_are_drawn_of_whatever_is_given() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    let drawing = "const done = arguments[0];
        import('/static/chart.js').then(({ visualize }) => {
            const columns = [{ key: 't', type: 'time', label: 'T' }, { key: 'a', type: 'number' }, { key: 'b', type: 'number' }];
            const rows = (...values) => values.map((a, at) => ({ t: `${at}:00`, a, b: 1 }));
            const odd = [];
            let drawn = 0;
            for (const kind of ['bar', 'line', 'area', 'pie', 'table', 'spiral']) {
                for (const spec of [null, {}, { columns }, { columns, rows: [] }, { rows: rows(1) }, { columns, rows: rows(1) },
                    { columns, rows: rows(1, 2.5, -3) }, { columns, rows: rows(0, 0) }, { columns, rows: rows(1e308, -1e308) },
                    { columns, rows: rows(5e-324) }, { columns, rows: rows(null, 'x', {}) }, { columns, rows: [{}] },
                    { columns, rows: rows(1), x: 'none', y: ['none', 'b'] }, { columns, rows: rows(...Array(5000).keys()) }]) {
                    const made = visualize({ kind, title: 'A', spec });
                    drawn += made.querySelectorAll('svg').length;
                    const shapes = [...made.querySelectorAll('svg, svg *')].flatMap((it) => [...it.attributes]);
                    const wrong = shapes.find(({ value }) => /NaN|Infinity|undefined/.test(value));
                    if (wrong || !made.querySelector('table')) odd.push([kind, JSON.stringify(spec).slice(0, 90), wrong?.value]);
                }
            }
            done([drawn, odd]);
        }).catch((error) => done(String(error)))";
    assert_eq!(browser.page.execute_async(drawing, Vec::new()).await.unwrap(), json!([36, []]));
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_is_pictured_in_mid_stream() {
    let browser = Browser::start().await;
    let scene = demo().await;
    for title in ["Opening hours of the lock", "Neap tides", "Why two tides a day?"] {
        scene.client.post("/v1/conversations", &json!({"title": title})).await.expect(201);
    }
    browser.page.set_window_size(1200, 860).await.unwrap();
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Slow, please: think, and show me a chart.").await;
    let begun = BEGUN.replace("> 20", "> 100");
    browser.until("the answer to begin", &begun).await;
    let picture = browser.page.screenshot().await.unwrap();
    assert_eq!(browser.js("return document.querySelectorAll('article.running').length").await, 1);
    // `scripts/picture` puts it into the docs.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/page.png"), picture).unwrap();
    browser.close().await;
}
