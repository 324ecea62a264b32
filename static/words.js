// What the page says, by language. To add one: add its column here; the browser's list of languages chooses.

const words = {
  en: {
    title: "Tidegate", api: "API", newConversation: "New conversation", conversations: "Conversations", messages: "Messages",
    search: "Search", showArchived: "With archived ones", archive: "Archive", unarchive: "Fetch back",
    edit: "Ask otherwise", editing: "What you send now stands beside the old question.", previous: "The version before",
    next: "The next version", versions: "Versions", none: "No conversations.", more: "More", earlier: "Earlier messages",
    rename: "Rename", remove: "Delete", cancel: "Cancel", reallyRemove: "Delete this conversation and all it holds?",
    newTitle: "New title", you: "You", assistant: "Assistant", message: "Your message", ask: "Ask something", send: "Send",
    stop: "Stop", again: "Ask again", latest: "To the latest", empty: "Ask something, and the answer appears here.",
    steps: "Steps", reasoning: "Reasoning", sources: "Sources", table: "Table", code: "Code", input: "Input", output: "Output",
    answering: "Answering…", queued: "Waiting for its turn…", done: "The answer is complete.", sending: "Not sent yet",
    live: "Live", reconnecting: "Reconnecting…", offline: "Offline", "caught up": "Up to date",
    gone: "This conversation is not there any more.", refused: "Refused", unsaved: "Not saved yet.",
    failed: "The answer failed.", stopped: "Stopped.", truncated: "The answer broke off.", timeout: "It took too long.",
    interrupted: "The answer was interrupted.", length: "The answer reached its greatest length.",
    filtered: "The answer was filtered.", tokens: "tokens",
    token: "Your token, or an API key", enter: "Sign in", out: "Sign out", noToken: "That is no token.",
    actions: ["What can you do?", "Show me a chart.", "Think, and show me a table."],
  },
  de: {
    title: "Tidegate", api: "API", newConversation: "Neue Unterhaltung", conversations: "Unterhaltungen", messages: "Nachrichten",
    search: "Suchen", showArchived: "Mit Archiv", archive: "Archivieren", unarchive: "Zurückholen",
    edit: "Anders fragen", editing: "Was du jetzt sendest, steht neben der alten Frage.", previous: "Die Fassung davor",
    next: "Die nächste Fassung", versions: "Fassungen", none: "Keine Unterhaltungen.", more: "Mehr", earlier: "Frühere Nachrichten",
    rename: "Umbenennen", remove: "Löschen", cancel: "Abbrechen",
    reallyRemove: "Diese Unterhaltung mit allem, was sie enthält, löschen?",
    newTitle: "Neuer Titel", you: "Du", assistant: "Assistent", message: "Deine Nachricht", ask: "Frag etwas",
    send: "Senden", stop: "Anhalten", again: "Noch einmal fragen", latest: "Zum Neuesten",
    empty: "Frag etwas, und die Antwort erscheint hier.",
    steps: "Schritte", reasoning: "Überlegung", sources: "Quellen", table: "Tabelle", code: "Code", input: "Eingabe", output: "Ausgabe",
    answering: "Antwortet …", queued: "Wartet, bis es an der Reihe ist …", done: "Die Antwort ist vollständig.",
    sending: "Noch nicht gesendet",
    live: "Live", reconnecting: "Verbindet neu …", offline: "Offline", "caught up": "Aktuell",
    gone: "Diese Unterhaltung gibt es nicht mehr.", refused: "Abgelehnt", unsaved: "Noch nicht gespeichert.",
    failed: "Die Antwort ist gescheitert.", stopped: "Angehalten.", truncated: "Die Antwort brach ab.",
    timeout: "Es dauerte zu lange.", interrupted: "Die Antwort wurde unterbrochen.",
    length: "Die Antwort hat ihre größte Länge erreicht.", filtered: "Die Antwort wurde gefiltert.", tokens: "Token",
    token: "Dein Token oder ein API-Schlüssel", enter: "Anmelden", out: "Abmelden", noToken: "Das ist kein Token.",
    actions: ["Was kannst du?", "Zeig mir ein Diagramm (chart).", "Denk nach (think) und zeig mir eine Tabelle (table)."],
  },
};

/** The language of the page: the first of the browser's that it speaks. */
export const language = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => words[tag]) ?? "en";

/** What the page says in it. */
export const say = words[language];
