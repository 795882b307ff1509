// A walk through the masks of a field, without anything to look at. What is pressed shows at once; what it does is
// sent to the server in order, each with the mask that was on display, and the next masks come ahead of it.

const AHEAD = 8; // masks that are kept ready
const BEHIND = 10; // masks that can be gone back to at once, and be undone without asking
const AT_A_TIME = 3; // masks that are asked for in one request
const AGAIN = 2000; // milliseconds until a request that failed is sent again
const DECISIONS = { accept: "accepted", reject: "rejected", delete: null };

const NOBODY = { total: 0, accepted: 0, rejected: 0, undecided: 0, failures: 0 };

export class ReviewStore {
  constructor() {
    this.sessions = new Set(); // all that were shown, so that an old layout of the panel does not bring one back
    this.pending = []; // what was pressed and is not stored yet
    this.listeners = new Set();
    this.counts = null;
    this.send = null; // params -> promise of the answer
    this.ask = null; // has the panel laid out again
    this.busy = false;
  }

  // ---- for the view -------------------------------------------------------------------------------------------------

  subscribe = (listener) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  read = () => this.snapshot;

  open(view) {
    if (this.sessions.has(view.session)) return;
    this.choice = { field: view.field, show: view.show };
    this.undecidedOnly = view.undecided_only;
    this.notice = null;
    this.counts = null;
    this.begin(view.session, view.start, view.total);
  }

  begin(session, start, total) {
    this.sessions.add(session);
    this.pending.forEach((event) => delete event.index); // it was an index in another order
    Object.assign(this, { session, total, deck: new Map(), done: [], shown: null, target: start, step: 1 });
    this.end = total === 0;
    this.settle();
    this.work();
  }

  press(action) {
    if (action === "restart") return this.restart();
    if (action === "skip" || action === "back") return this.move(action === "skip" ? 1 : -1);
    if (action === "undo") return this.undo();
    const card = this.deck.get(this.shown);
    if (!card || card.gone) return;
    if (card.retrying) return this.say("A new mask is on its way.");
    this.notice = this.notice?.problem ? this.notice : null;
    const { ref, decision, version } = card;
    const event = { action, field: this.choice.field, ref, decision, version, index: this.shown };
    if (action in DECISIONS) {
      if (card.decision !== null && card.decision === DECISIONS[action]) {
        if (this.target === this.shown) this.move(1); // seen again, and found right
        return;
      }
      const after = action === "delete" ? { gone: true } : { ...card, decision: DECISIONS[action] };
      this.deck.set(this.shown, after);
      this.done.push({ index: this.shown, card });
      if (this.done.length > BEHIND) this.done.shift();
      event.change = changed(card, after);
    } else if (action !== "open") {
      this.deck.set(this.shown, { ...card, retrying: true });
      this.done.push({ index: this.shown, card });
    }
    this.pending.push(event);
    if (action in DECISIONS && this.target === this.shown) this.move(1);
    else this.settle();
    this.work();
  }

  dismiss() {
    const index = this.notice?.index;
    this.notice = null;
    if (index !== undefined) Object.assign(this, { target: index, step: 1, end: false, exact: true });
    this.settle();
    this.work();
  }

  // ---- the walk -----------------------------------------------------------------------------------------------------

  move(step) {
    if (!this.notice?.problem) this.notice = null;
    const from = this.end ? this.total : this.target;
    if (step > 0 && from >= this.total) return;
    Object.assign(this, { target: from + step, step, end: false, exact: false });
    this.settle();
    this.work();
  }

  // Go to the mask that is wanted, past those that are not, if it is here already.
  settle() {
    const decided = (card) => this.undecidedOnly && this.step > 0 && !this.exact && card.decision;
    const unwanted = (card) => card.gone || decided(card);
    while (this.deck.has(this.target) && unwanted(this.deck.get(this.target))) this.target += this.step;
    if (this.target < 0) {
      this.say("This is the first one.");
      const first = [...this.deck].filter(([, card]) => !card.gone).map(([index]) => index);
      Object.assign(this, { target: this.shown ?? Math.min(...first, this.total), step: 1, exact: true });
    }
    if (this.target >= this.total) Object.assign(this, { end: true, shown: null });
    else if (this.deck.has(this.target)) Object.assign(this, { end: false, shown: this.target });
    for (const index of this.deck.keys()) if (index < this.target - BEHIND) this.deck.delete(index);
    this.tell();
  }

  undo() {
    this.notice = null;
    const last = this.done.pop();
    if (!last) {
      this.pending.push({ action: "undo" });
      return this.work();
    }
    const now = this.deck.get(last.index);
    this.deck.set(last.index, last.card);
    this.pending.push({ action: "undo", ref: last.card.ref, index: last.index, change: changed(now, last.card) });
    Object.assign(this, { target: last.index, step: 1, end: false, exact: true });
    this.settle();
    this.work();
  }

  restart() {
    this.starting = true;
    this.notice = null;
    this.work();
  }

  say(text) {
    this.notice = { text };
    this.tell();
  }

  tell() {
    const card = this.deck.get(this.shown);
    const ahead = [];
    for (let index = (this.shown ?? this.target) - 1; index <= this.target + 3; index++) {
      const other = this.deck.get(index);
      if (other?.picture) ahead.push({ index, key: other.ref[2] + other.version, picture: other.picture });
    }
    const counts = this.counts && this.pending.reduce((sum, { change }) => plus(sum, change), this.counts);
    const { shown, total, end, notice, problem, choice } = this;
    const waiting = !end && shown !== this.target;
    this.snapshot = { card, ahead, counts, shown, total, end, notice, problem, waiting, choice };
    this.listeners.forEach((listener) => listener());
  }

  // ---- the server ---------------------------------------------------------------------------------------------------

  wanted() {
    if (this.end && this.target >= this.total) return [];
    const order = [this.target];
    for (let i = 1; i <= AHEAD; i++) order.push(this.target + i);
    order.push(this.target - 1);
    const missing = order.filter((index) => index >= 0 && index < this.total && !this.deck.has(index));
    return missing[0] === this.target ? [this.target] : missing.slice(0, AT_A_TIME); // what is waited for comes alone
  }

  async work() {
    if (this.busy || !this.send) return;
    const events = [...this.pending];
    const want = this.wanted();
    const restart = this.starting;
    if (!events.length && !want.length && !restart && this.counts) return;
    this.busy = true;
    this.starting = false;
    const { session } = this;
    const at = this.end ? this.total : this.shown;
    let answer;
    try {
      const sent = events.map(({ change, index, ...event }) => event);
      answer = await this.send({ ...this.choice, session, at, want, events: sent, restart });
    } catch (error) {
      console.error("MobileSAM: a step of the review was not answered", error);
      this.starting ||= restart;
      this.problem = "The server does not answer. What is not stored yet is sent again until it does.";
      setTimeout(() => this.freed(), AGAIN);
      return this.tell();
    }
    if (session === this.session) this.take(answer, events);
    else this.pending = this.pending.slice(events.length); // the panel shows others by now
    this.freed();
  }

  freed() {
    this.busy = false;
    this.work();
  }

  take(answer, events) {
    this.pending = this.pending.slice(events.length);
    this.problem = answer.problem;
    if (answer.problem) {
      this.counts ??= NOBODY;
      this.deck.clear();
      Object.assign(this, { end: true, target: this.total, shown: null, done: [] });
      return this.tell();
    }
    this.counts = answer.counts;
    const isNew = answer.session !== this.session;
    if (isNew) this.begin(answer.session, answer.start, answer.total);
    this.total = answer.total;
    for (const [index, card] of Object.entries(answer.cards)) this.put(Number(index), card);
    answer.answers.forEach(({ index, card, ...found }, i) => {
      const later = [...events.slice(i + 1), ...this.pending].some((other) => other.index === index);
      if (isNew) return this.hear(found, events[i]); // the index is one in the order before
      if (card && !later) this.deck.set(index, card);
      this.hear({ ...found, index }, events[i]);
    });
    this.settle();
    if (answer.refresh) this.ask();
  }

  put(index, card) {
    if (!this.deck.has(index)) this.deck.set(index, card);
  }

  hear(found, event) {
    if (found.problem) {
      this.done = this.done.filter((one) => one.index !== event.index);
      this.notice = { text: found.problem, problem: true };
      if (found.index !== undefined && found.index !== this.shown) this.notice.index = found.index;
    } else if (found.message) this.notice = { text: found.message };
    if (found.undone && event.index === undefined)
      Object.assign(this, { target: found.index, step: 1, end: false, exact: true });
  }
}

// What a step changes in the counts, until the server has counted.
function changed(before, after) {
  const change = { total: 0, accepted: 0, rejected: 0, undecided: 0, failures: 0 };
  for (const [card, sign] of [
    [before, -1],
    [after, 1],
  ]) {
    if (!card || card.gone) continue;
    change.total += sign;
    change[card.decision ?? "undecided"] += sign;
    if (card.failed) change.failures += sign;
  }
  return change;
}

function plus(counts, change) {
  if (!change) return counts;
  return Object.fromEntries(Object.entries(counts).map(([name, value]) => [name, value + change[name]]));
}
