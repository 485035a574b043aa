// Keeps the list current without losing the place: only where scripts run; elsewhere the page reloads by itself.
(() => {
  const fresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, credentials: 'same-origin' });
      if (!answer.ok || answer.redirected) { location.reload(); return; }
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const focused = document.activeElement && document.activeElement.id;
      document.querySelector('main').replaceWith(page.querySelector('main'));
      if (focused) { const again = document.getElementById(focused); if (again) again.focus(); }
    } catch (error) {
      document.getElementById('stale').hidden = false;
    }
  };
  setInterval(fresh, 15000);
  document.addEventListener('visibilitychange', fresh);
})();
