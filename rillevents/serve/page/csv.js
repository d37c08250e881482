// CSV of what is shown, as a file of the browser: nothing is requested for it.

// A spreadsheet runs a cell that begins with one of these.
const RUN = /^[=+\-@\t\r]/;

export function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && RUN.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function save(name, rows) {
  const text = rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  const link = document.createElement("a");
  // With a byte order mark, or spreadsheets take UTF-8 for something else.
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
