// Fills rows of a form from cells that were copied in Excel (text with tabs between cells), from the cell that has the focus on.
// A first line that repeats the column heads and a first column that only counts the lines are left out.
(() => {
  const table = document.querySelector('table.cells'), told = document.getElementById('pasted');
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells].slice(1).map(one => one.textContent.trim());
  const fields = row => [...row.querySelectorAll('td input, td select')];

  const parse = text => {  // cells with line breaks or quotes stand in quotes
    const lines = [[]];
    for (const [, quoted, plain, end] of text.replace(/\r\n?/g, '\n').matchAll(/(?:"((?:[^"]|"")*)"|([^\t\n]*))(\t|\n|$)/g)) {
      const cell = quoted === undefined ? plain : quoted.replace(/""/g, '"');
      lines[lines.length - 1].push((cell || '').replace(/\s+/g, ' ').trim());
      if (end === '\n') lines.push([]);
      if (!end) break;
    }
    return lines.filter(line => line.some(cell => cell));
  };
  const added = () => {
    const row = body.rows[0].cloneNode(true), number = body.rows.length + 1;
    row.id = 'r' + number;
    row.querySelectorAll('.error, .stored').forEach(one => one.remove());
    row.cells[0].textContent = number;
    row.querySelectorAll('label').forEach(one => { one.htmlFor = one.htmlFor.replace(/^r\d+/, 'r' + number); });
    fields(row).forEach(one => {
      one.id = one.id.replace(/^r\d+/, 'r' + number);
      one.name = one.name.replace(/^r\d+/, 'r' + number);
      one.value = '';
      one.removeAttribute('aria-invalid');
      one.removeAttribute('aria-describedby');
    });
    return body.appendChild(row);
  };
  const write = (field, text) => {
    if (field.options && text && ![...field.options].some(one => one.value === text)) field.add(new Option(text));
    field.value = text;
  };
  body.addEventListener('paste', event => {
    const text = event.clipboardData.getData('text/plain'), start = event.target.closest('tr');
    if (!/[\t\n]/.test(text.trim()) || !start) return;
    event.preventDefault();
    let lines = parse(text), column = fields(start).indexOf(event.target);
    if (lines[0] && lines[0].some(cell => heads.includes(cell))) lines.shift();
    if (!column && lines.length && lines.every(line => line.length > heads.length && /^\d+$/.test(line[0]))) lines = lines.map(line => line.slice(1));
    let at = start.sectionRowIndex, filled = 0;
    for (const line of lines) {
      const row = body.rows[at] || (at < +table.dataset.most ? added() : null);
      if (!row) break;
      const there = fields(row);
      line.forEach((cell, n) => there[column + n] && write(there[column + n], cell));
      at += 1;
      filled += 1;
    }
    const left = lines.length - filled;
    told.textContent = table.dataset.pasted.replace('{rows}', filled) + (left ? ' ' + table.dataset.left.replace('{rows}', left) : '');
  });
})();
