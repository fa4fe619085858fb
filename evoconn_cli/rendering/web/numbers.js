// Numbers as a video shows them.
"use strict";

// Decimals that show three digits of the greatest value, 0 to 3.
const decimalsOf = (most) => Math.min(3, Math.max(0, 2 - Math.floor(Math.log10(Math.max(most, 1e-3)))));

// A number without a sign where it rounds to zero.
function formatNumber(value, decimals, plus = false) {
  const text = Math.abs(value).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  if (!/[1-9]/.test(text)) return text;
  return (value < 0 ? "-" : plus ? "+" : "") + text;
}

const greatestSize = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
