// The browser's part of the panel "Review masks": the mask on display, its buttons and their keys.
const { ReviewStore } = await import(`./review_store.js${new URL(import.meta.url).search}`);

const { createElement: h, useEffect, useRef, useState, useSyncExternalStore } = window.React;
const { Alert, Box, Button, LinearProgress, Typography } = window.__mui__;
const { executeOperator, usePanelEvent } = window.__foo__;

// Action, label, key, colour.
const DECIDE = [
  ["accept", "Accept", "A", "#2e7d32"],
  ["reject", "Reject", "R", "#c62828"],
  ["skip", "Skip", "S"],
  ["back", "Back", "B"],
  ["undo", "Undo", "U"],
  ["delete", "Delete", "X"],
  ["open", "Open sample", "O"],
];
const RETRY = [
  ["candidate", "Next candidate", "N"],
  ["centre", "Box + centre point", "C"],
  ["padded", "Box + 10%", "P"],
  ["unclipped", "Not cut at the box", "T"],
];
const ALWAYS = ["back", "undo"]; // where no mask is on display, too
const OTHER_KEYS = { ArrowRight: "skip", ArrowLeft: "back", Delete: "delete" };
const BY_KEY = Object.fromEntries([...DECIDE, ...RETRY].map(([action, , key]) => [key, action]));
const DOUBLE_CLICK = 200; // milliseconds: nobody has seen the next mask by then
const EDITABLE = "input, textarea, select, [contenteditable]";
const STAGE = { width: "100%", aspectRatio: "880 / 560", maxHeight: "56vh", position: "relative" };
const PICTURE = { position: "absolute", inset: 0, width: "100%", height: "100%", objectFit: "contain" };

const stores = new Map(); // by panel: what was pressed is sent even if the panel is left

function storeOf(panel) {
  if (!stores.has(panel)) stores.set(panel, new ReviewStore());
  return stores.get(panel);
}

// A page that is left with decisions on their way would take them along: the browser asks first.
window.addEventListener("beforeunload", (event) => {
  if ([...stores.values()].some((store) => store.pending.length)) event.preventDefault();
});

function send(operator, params) {
  return new Promise((resolve, reject) => {
    const callback = ({ result, error }) => (error || !result ? reject(error) : resolve(result));
    executeOperator(operator, params, { callback, skipErrorNotification: true });
  });
}

function actionOf(event) {
  if (event.target.closest?.(EDITABLE)) return undefined;
  const letter = /^[a-z]$/i.test(event.key) ? event.key.toUpperCase() : event.code.replace(/^Key/, "");
  if (event.ctrlKey || event.metaKey) return letter === "Z" && !event.shiftKey ? "undo" : undefined;
  if (event.altKey) return undefined;
  return OTHER_KEYS[event.key] ?? BY_KEY[letter];
}

function MobileSAMReview({ schema }) {
  const { view } = schema;
  const panel = window.__fosp__.usePanelId();
  const event = usePanelEvent();
  const store = storeOf(panel);
  store.send = (params) => send(view.step, { ...params, panel_id: panel });
  store.ask = () => event(panel, { operator: view.refresh });
  useEffect(() => store.open(view), [store, view.session]);
  const state = useSyncExternalStore(store.subscribe, store.read);
  const [hasKeys, setHasKeys] = useState(false);
  const room = useRef(null);
  useEffect(() => {
    const node = room.current;
    const onKey = (pressed) => {
      const action = actionOf(pressed);
      if (!action) return;
      pressed.preventDefault();
      pressed.stopPropagation(); // the App has keys of its own
      const held = pressed.repeat && action !== "skip" && action !== "back";
      if (!held) store.press(action);
    };
    node.addEventListener("keydown", onKey);
    if (!document.activeElement?.matches(EDITABLE)) node.focus({ preventScroll: true });
    return () => node.removeEventListener("keydown", onKey);
  }, [store]);
  const clicked = useRef(0);
  const click = (action) => (pressed) => {
    const twice = pressed.detail > 1 && action in { accept: 1, reject: 1, delete: 1 };
    if (twice && pressed.timeStamp - clicked.current < DOUBLE_CLICK) return;
    clicked.current = pressed.timeStamp;
    store.press(action);
  };
  const button = ([action, label, key, colour]) =>
    h(
      Button,
      {
        key: action,
        onClick: click(action),
        disabled: !(state?.card || ALWAYS.includes(action)),
        variant: colour ? "contained" : "outlined",
        color: "inherit",
        size: "small",
        title: `Key ${key}`,
        "aria-keyshortcuts": key.toLowerCase(),
        sx: colour ? { bgcolor: colour, color: "white", "&:hover": { bgcolor: colour } } : {},
      },
      `${label} `,
      h("kbd", { style: { marginLeft: 6, opacity: 0.6, fontFamily: "inherit" }, "aria-hidden": true }, key),
    );
  return h(
    Box,
    {
      ref: room,
      tabIndex: 0,
      "data-cy": "mobilesam-review",
      onFocus: () => setHasKeys(true),
      onBlur: () => setHasKeys(false),
      // A press on a button must not take the keys away, not even when the button is disabled then.
      onMouseDown: (pressed) => {
        pressed.preventDefault();
        room.current.focus({ preventScroll: true });
      },
      sx: { display: "flex", flexDirection: "column", gap: 1, outline: "none" },
    },
    state && h(Mask, { state, hasKeys }),
    h(Box, { sx: { display: "flex", flexWrap: "wrap", gap: 1 } }, DECIDE.map(button)),
    h(Box, { sx: { display: "flex", flexWrap: "wrap", gap: 1 } }, state?.card && RETRY.map(button)),
    state?.end && h(Button, { onClick: click("restart"), variant: "outlined", color: "inherit" }, "Start again"),
    state?.notice && h(Notice, { notice: state.notice, onClose: () => store.dismiss() }),
    state?.problem && h(Alert, { severity: "warning" }, state.problem),
    h(
      Typography,
      { variant: "caption", color: "text.secondary" },
      hasKeys
        ? "The keys on the buttons work now, and ← → Delete Ctrl+Z too."
        : "Click the picture to use the keys on the buttons.",
    ),
  );
}

function Notice({ notice, onClose }) {
  const label = notice.index === undefined ? "OK" : "Show it";
  const action = notice.problem && h(Button, { size: "small", color: "inherit", onClick: onClose }, label);
  return h(Alert, { severity: notice.problem ? "warning" : "info", action }, notice.text);
}

function Mask({ state, hasKeys }) {
  const { card, counts, shown, total, end } = state;
  const number = (value) => value.toLocaleString("en");
  let numbers = end ? "Nothing left here. " : "";
  if (!end && shown !== null) numbers += `${number(shown + 1)} of ${number(total)} · `;
  if (counts) {
    numbers += `${number(counts.accepted)} accepted, ${number(counts.rejected)} rejected, `;
    numbers += `${number(counts.undecided)} undecided, ${number(counts.failures)} without a mask`;
  }
  const [label, ...words] = card?.words ?? [""];
  const pictures = state.ahead.map(({ index, key, picture }) => {
    const seen = index === shown;
    const style = { ...PICTURE, visibility: seen ? "visible" : "hidden" };
    const alt = seen ? "The mask and its prompt" : "";
    return h("img", { key, src: picture, alt, "aria-hidden": !seen, decoding: "sync", style });
  });
  const frame = { ...STAGE, borderRadius: 4, overflow: "hidden", background: "#161618" };
  frame.outline = hasKeys ? "2px solid var(--fo-palette-primary-main)" : "none";
  return h(
    Box,
    { sx: { display: "flex", flexDirection: "column", gap: 1 } },
    h(Typography, { "data-cy": "review-numbers" }, numbers),
    !end &&
      h(
        Typography,
        { "data-cy": "review-words", sx: { minHeight: "1.5em" } },
        h("b", null, label),
        [card?.decision, ...words].filter(Boolean).map((text) => ` · ${text}`).join(""),
      ),
    !end && h("div", { style: frame, "data-label-id": card?.ref?.[2] }, pictures),
    (state.waiting || card?.retrying) && h(LinearProgress, { "aria-label": "The next picture is on its way" }),
    card?.problem && h(Alert, { severity: "warning" }, `The image cannot be shown. ${card.problem}`),
  );
}

window.__fop__.registerComponent({
  name: "MobileSAMReview",
  component: MobileSAMReview,
  type: window.__fop__.PluginComponentType.Component,
  activator: () => true,
});
