// Who is signed in. The token lives in this tab's session storage and nowhere else: it is gone with the tab,
// on sign-out, and when the node refuses it.

const KEY = "pop.token";
const listeners = new Set();

export function token() {
  return sessionStorage.getItem(KEY);
}

export function signIn(value) {
  sessionStorage.setItem(KEY, value);
  tell("");
}

/** Forgets the token; `message` says why when it was not the operator's wish. */
export function signOut(message = "") {
  sessionStorage.removeItem(KEY);
  tell(message);
}

/** The node answered 401 to a token; one that was replaced meanwhile no longer matters. */
export function refused(value) {
  if (value !== null && value === token()) {
    signOut("The node does not accept this token any more: it was revoked or has expired.");
  }
}

/** Calls `listener(message)` on each change of who is signed in. */
export function onChange(listener) {
  listeners.add(listener);
}

function tell(message) {
  for (const listener of listeners) listener(message);
}
