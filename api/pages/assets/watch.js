// Keeps a page of live figures current, says how old each figure is, and says so when it can't be renewed.
// Without scripts a page gives the times themselves. Ages are counted from when the page was asked for: never too young.
(() => {
  const { every, from, words } = document.body.dataset;
  const text = JSON.parse(words), stale = document.getElementById('stale');
  const units = [['days', 864e5], ['hours', 36e5], ['minutes', 6e4], ['seconds', 1e3]];
  let since = Date.now() - performance.now(), busy = false;

  const say = (name, value) => text[name].replace(/\{\w+\}/, value);
  const span = length => {  // as Texts.span in texts.py
    const i = units.findIndex(([, unit]) => length >= unit), at = i < 0 ? 3 : i;
    const [name, unit] = units[at], [finer, small] = units[Math.min(at + 1, 3)];
    const whole = say(name, Math.floor(length / unit)), rest = Math.floor(length % unit / small);
    return rest && unit >= 36e5 ? whole + ' ' + say(finer, rest) : whole;
  };
  const tick = () => document.querySelectorAll('[data-age]').forEach(one => {
    const age = say('age', span(Math.max(0, +one.dataset.age + Math.max(0, Date.now() - since))));
    if (one.textContent !== age) one.textContent = age;
    one.hidden = false;
  });

  const written = part => part.querySelector('[data-written]') || [...part.querySelectorAll('textarea, input:not([type=hidden])')]
    .some(field => field === document.activeElement || field.value !== field.defaultValue);
  const live = main => [...main.querySelectorAll('[data-live]')];
  const same = (a, b) => [a, b].map(one => one.outerHTML.replace(/name="csrf" value="\w+"/g, '')).reduce((x, y) => x === y);
  const swap = (old, fresh) => {
    if (same(old, fresh)) return;
    const focused = old.contains(document.activeElement) && document.activeElement.id;
    [old, ...old.querySelectorAll('details')].forEach(one => {
      const again = one.open && one.id && (fresh.id === one.id ? fresh : fresh.querySelector('#' + one.id));
      if (again) again.open = true;
    });
    old.replaceWith(fresh);
    const again = focused && document.getElementById(focused);
    if (again) again.focus({ preventScroll: true });
  };
  const show = page => {
    const old = document.querySelector('main'), fresh = page.querySelector('main');
    const ids = main => live(main).map(one => one.id).join();
    if (ids(old) !== ids(fresh) && !written(old)) return swap(old, fresh);
    live(fresh).forEach(one => {  // what somebody is writing stays where it is
      const shown = document.getElementById(one.id);
      if (shown && !written(shown)) swap(shown, one);
    });
  };
  const renew = async () => {
    if (busy || document.hidden) return;
    busy = true;
    const began = Date.now(), limit = new AbortController(), timer = setTimeout(() => limit.abort(), 12000);
    try {
      const answer = await fetch(from, { headers: { Accept: 'text/html' }, credentials: 'same-origin', signal: limit.signal });
      const gone = answer.redirected || [401, 403, 404, 410].includes(answer.status);
      if (gone && !written(document)) return location.assign(from);
      if (gone || !answer.ok) throw new Error(answer.status);
      show(new DOMParser().parseFromString(await answer.text(), 'text/html'));
      since = began;
      lost(false);
    } catch (error) {
      lost(true);
    } finally {
      clearTimeout(timer);
      busy = false;
      tick();
    }
  };
  const lost = so => {
    stale.hidden = !so;
    document.body.classList.toggle('stale', so);
  };

  tick();
  setInterval(tick, 1000);
  setInterval(renew, every * 1000);
  document.addEventListener('visibilitychange', () => { tick(); renew(); });
  addEventListener('online', renew);
  addEventListener('offline', () => lost(true));
  addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(one => { one.open = true; }));
})();
