((explain) => {
  const MOST_CHANNELS = 6;
  const HEIGHT = 34; // of a picture in a box
  const MOST_PIXELS = 64; // along one side
  const GAP = 2;

  /** The last two axes of the first example of a tensor, as far as they look like pictures: {channels, rows, columns}, or null. */
  const planes = (tensor) => {
    const rank = tensor?.shape.length ?? 0;
    if (rank < 3 || rank > 4) return null;
    const { picture } = tensor;
    const [channels, rows, columns] = picture ? [picture.planes, picture.rows, picture.columns] : tensor.stored.slice(-3);
    if (Math.min(rows, columns) < 4 || Math.max(rows, columns) > 3 * Math.min(rows, columns)) return null;
    return { channels: Math.min(channels, MOST_CHANNELS), rows, columns };
  };

  /** The room that the pictures of a tensor take in a box, or null. */
  const sizeOf = (tensor) => {
    const found = planes(tensor);
    if (!found) return null;
    const each = (HEIGHT * found.columns) / found.rows;
    return { width: found.channels * (each + GAP) - GAP, height: HEIGHT };
  };

  /** The first channels of a tensor side by side, as the address of a picture; grey where nothing is negative. */
  const draw = (tensor) => {
    const { channels, rows, columns } = planes(tensor);
    const step = Math.max(1, Math.ceil(Math.max(rows, columns) / MOST_PIXELS));
    const [height, width] = [Math.ceil(rows / step), Math.ceil(columns / step)];
    const gap = Math.max(1, Math.round((GAP * height) / HEIGHT));
    const canvas = explain.create("canvas", { width: channels * (width + gap) - gap, height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, height);
    const { minimum, maximum } = tensor.stats;
    const limit = Math.max(Math.abs(minimum), Math.abs(maximum));
    const before = tensor.shape.length === 4 ? [0] : [];
    const at = tensor.picture?.at ?? ((...indices) => tensor.at(...before, ...indices));
    for (let channel = 0; channel < channels; channel += 1) {
      for (let y = 0; y < height; y += 1) {
        for (let x = 0; x < width; x += 1) {
          const value = at(channel, y * step, x * step);
          const colour = minimum >= 0 ? explain.greyChannels(value, 0, maximum) : explain.colourChannels(value, limit);
          const i = 4 * (y * canvas.width + channel * (width + gap) + x);
          [image.data[i], image.data[i + 1], image.data[i + 2], image.data[i + 3]] = [...colour, 255];
        }
      }
    }
    context.putImageData(image, 0, 0);
    return canvas.toDataURL();
  };

  explain.thumbnails = { sizeOf, draw };
})(globalThis.explain);
