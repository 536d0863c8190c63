// Of every text that can be seen: its colour, what is behind it, and the contrast of both (WCAG 2.2, 1.4.3 and 1.4.11).
// Run by test_browser.py in the page.
() => {
  const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => {
      const part = v / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (box.width === 0 || style.visibility === "hidden" || element.tagName.toLowerCase() === "title") continue;
    const text = element.textContent.trim().slice(0, 40);
    const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    const colour = element instanceof SVGElement ? style.fill : style.color;
    if (own) found.push([`${element.tagName} ${text}`, ratio(parse(colour), behind(element)), 4.5]);
    if (element.matches("input:not([type=hidden]), select")) {
      found.push([`border of ${element.name}`, ratio(parse(style.borderTopColor), behind(element.parentElement)), 3]);
    }
    if (element.matches("rect.good, rect.fair, rect.clear, rect.warn, rect.bad")) {
      found.push([`bar ${element.getAttribute("class")}`, ratio(parse(style.fill), behind(element.parentElement)), 3]);
    }
  }
  return found;
}
