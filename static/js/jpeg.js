// JPEGs to what canvases draw.
//
// WebCodecs takes a tenth of the time of a Blob, whose way goes through another process; browsers
// have it where the page came over HTTPS or from this machine.
const TYPE = "image/jpeg";

/** @param {Uint8Array} jpeg @returns {Promise<ImageBitmap|VideoFrame>} to be closed after use @throws where it is no JPEG */
export async function decode(jpeg) {
  if (!globalThis.ImageDecoder) return createImageBitmap(new Blob([jpeg], { type: TYPE }));
  const decoder = new ImageDecoder({ data: jpeg, type: TYPE });
  try {
    return (await decoder.decode()).image;
  } finally {
    decoder.close();
  }
}

/** The same for what is kept: a browser minds frames that nobody closed. @param {Uint8Array} jpeg @returns {Promise<ImageBitmap>} */
export async function bitmapOf(jpeg) {
  const image = await decode(jpeg);
  if (!("displayWidth" in image)) return image;
  try {
    return await createImageBitmap(image);
  } finally {
    image.close();
  }
}
