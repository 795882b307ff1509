"""The walk through masks in the browser, `js/review_store.js`, with a server made up here: what comes late or fails."""

import json

import pytest

# A server that answers when it is told to. `steps` are what it was asked; each is answered by `answer(change)`.
WORLD = """
const { ReviewStore } = await import("/plugins/@mobilesam/fiftyone-mobilesam/js/review_store.js");
const turn = () => new Promise((go) => setTimeout(go));
const card = (i) => ({ ref: ["s", "s", `m${i}`], decision: null, version: "v", words: [`m${i}`], picture: `p${i}` });
const steps = [];
const store = new ReviewStore();
store.ask = () => {};
store.send = (params) => new Promise((resolve, reject) => steps.push({ params, resolve, reject }));
const counts = { total: 9, accepted: 0, rejected: 0, undecided: 9, failures: 0 };
const answer = async (change = {}) => {
    const { params, resolve } = steps.shift();
    const cards = Object.fromEntries(params.want.map((i) => [i, card(i)]));
    const answers = params.events.map(() => ({}));
    resolve({ session: params.session, total: 9, start: 0, answers, counts, cards, refresh: false, ...change });
    await turn();
    return params;
};
const open = async () => {
    store.open({ session: "one", field: "masks", show: "undecided", undecided_only: true, start: 0, total: 9 });
    await answer(); // the first mask, alone
};
const read = () => {
    const { card, counts, shown, notice, waiting, problem } = store.read();
    return { label: card?.words?.[0], decision: card?.decision, counts, shown, notice, waiting, problem };
};
"""


@pytest.fixture
def walk(app, chromium):
    """Run JavaScript in that world, and return what it returns."""
    chromium.get(f"{app}/plugins/@mobilesam/fiftyone-mobilesam/js/index.js")  # a page of the same origin

    def run(script):
        program = f"const done = arguments[0]; (async () => {{ {WORLD} {script} }})().then("
        program += "(found) => done(JSON.stringify(found)), (error) => done(JSON.stringify(String(error.stack))));"
        return json.loads(chromium.execute_async_script(program))

    return run


def test_a_click_while_no_next_mask_is_there_is_about_the_one_on_display(walk):
    first, second, sent, then = walk("""
    await open();
    store.press("accept");
    const first = read();
    store.press("accept"); // impatient: it is accepted already
    store.press("reject"); // another mind
    const second = read();
    await answer({ cards: {} }); // what was asked for before the clicks
    const { events } = await answer();
    return [first, second, events.map(({ action, ref }) => [action, ref[2]]), read()];
    """)
    assert (first["label"], first["decision"], first["waiting"]) == ("m0", "accepted", True)
    assert (first["counts"]["accepted"], first["counts"]["undecided"]) == (1, 8)
    assert (second["label"], second["decision"], second["counts"]["accepted"]) == ("m0", "rejected", 0)
    assert sent == [["accept", "m0"], ["reject", "m0"]]
    assert (then["label"], then["decision"]) == ("m1", None)


def test_steps_are_sent_in_order_and_again_if_the_server_was_away(walk):
    sent, again, counts = walk("""
    await open();
    while (steps.length) await answer();
    store.press("accept");
    store.press("reject");
    const [{ params }] = steps;
    steps.shift().reject(new Error("away"));
    await turn();
    store.press("skip");
    store.press("accept");
    const away = store.read().problem;
    store.freed(); // rather than wait for it
    const again = steps[0].params.events.map(({ action, ref }) => [action, ref[2]]);
    return [[params.events.map(({ ref }) => ref[2]), away], again, read().counts];
    """)
    assert sent[0] == ["m0"]
    assert "not stored yet" in sent[1]
    assert again == [["accept", "m0"], ["reject", "m1"], ["accept", "m3"]]
    assert (counts["accepted"], counts["rejected"], counts["undecided"]) == (2, 1, 6)


def test_a_decision_that_another_window_prevents_is_told_and_moves_nothing(walk):
    told, shown = walk("""
    await open();
    while (steps.length) await answer();
    store.press("accept");
    const theirs = { ...card(0), decision: "rejected" };
    await answer({ answers: [{ problem: "In another window ...", index: 0, card: theirs }] });
    const told = read();
    store.press("accept"); // about m1, and the message stays
    const still = read().notice;
    store.dismiss();
    return [{ ...told, still }, read()];
    """)
    assert (told["label"], told["notice"]["text"]) == ("m1", "In another window ...")
    assert told["still"]["index"] == 0
    assert (shown["label"], shown["decision"], shown["notice"]) == ("m0", "rejected", None)


def test_undo_goes_back_at_once_to_what_was_there(walk):
    before, now, sent = walk("""
    await open();
    while (steps.length) await answer();
    store.press("accept");
    store.press("delete");
    const before = read();
    store.press("undo");
    const now = read();
    store.press("undo");
    await answer();
    return [before, now, steps[0].params.events.map(({ action, ref }) => [action, ref[2]])];
    """)
    assert (before["label"], before["counts"]["total"], before["counts"]["accepted"]) == ("m2", 8, 1)
    assert (now["label"], now["decision"], now["counts"]["total"]) == ("m1", None, 9)
    assert sent == [["delete", "m1"], ["undo", "m1"], ["undo", "m0"]]
