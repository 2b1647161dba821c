// The stream of events. It comes back by itself, whether the server went away or refused; what it tells of its own
// state is live, reconnecting, stopped (nobody answers) or ended (the server has said so itself).

const PATIENCE = 6000; // ms without an answer until a server counts as stopped
const AGAIN = 1500; // ms between two attempts, where the browser itself makes none

export function connect(hear, tell) {
  let lost = 0;
  let timer = 0;

  function open() {
    const source = new EventSource('events');
    source.addEventListener('open', () => {
      lost = 0;
      clearTimeout(timer);
      tell('live');
    });
    source.addEventListener('ended', () => {
      lost = Date.now(); // it may come back all the same
      tell('ended');
    });
    source.addEventListener('error', () => {
      if (!lost) {
        lost = Date.now();
        tell('reconnecting');
        timer = setTimeout(() => tell('stopped'), PATIENCE);
      }
      if (source.readyState === EventSource.CLOSED) setTimeout(open, AGAIN);
    });
    for (const name of ['picture', 'stories', 'items']) {
      source.addEventListener(name, (event) => hear(name, JSON.parse(event.data)));
    }
  }

  tell('connecting');
  open();
}
