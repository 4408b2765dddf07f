import { createContext } from 'react';

// So many panels outside of the screen ask at once: enough to keep the connections in use while one is drawn.
const FAR_AT_ONCE = 4;

interface Waiting {
  // What is drawn; null is what lies on all of it.
  element: Element | null;
  go: (near: boolean) => void;
}

/** Whose turn it is to ask: at once what is on the screen; then what lies on all of it; then the rest, from the top. */
export class Order {
  private waiting: Waiting[] = [];
  private near = 0;
  private far = 0;

  async run<T>(element: Element | null, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const near = await this.turn(element, signal);
    try {
      return await work();
    } finally {
      if (near) {
        this.near -= 1;
      } else {
        this.far -= 1;
      }
      this.next();
    }
  }

  /** To be called when what is on the screen may be other than before. */
  readonly look = (): void => {
    const [seen, rest] = [this.waiting.filter(onScreen), this.waiting.filter((one) => !onScreen(one))];
    this.waiting = rest;
    this.near += seen.length;
    seen.forEach(({ go }) => go(true));
  };

  private turn(element: Element | null, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const one = { element, go: resolve };
      if (this.waiting.length === 0) {
        // When all that comes at the same moment is here.
        queueMicrotask(this.next);
      }
      this.waiting.push(one);
      signal.addEventListener('abort', () => {
        this.waiting = this.waiting.filter((other) => other !== one);
        reject(new DOMException('Nobody waits for the turn.', 'AbortError'));
      }, { once: true });
    });
  }

  private readonly next = (): void => {
    this.look();
    while (this.near === 0 && this.far < FAR_AT_ONCE && this.waiting.length > 0) {
      const [first] = [...this.waiting.filter(({ element }) => !element), ...this.waiting];
      this.waiting = this.waiting.filter((one) => one !== first);
      this.far += 1;
      first?.go(false);
    }
  };
}

function onScreen({ element }: Waiting): boolean {
  const { top = 0, bottom = 0 } = element?.getBoundingClientRect() ?? {};
  return top < window.innerHeight && bottom > 0;
}

export const OrderContext = createContext(new Order());
