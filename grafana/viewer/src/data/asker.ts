// Panels that want the same do not all ask at the same moment; a refresh comes later than this.
const KEPT_MS = 3000;

interface Question {
  answer: Promise<unknown>;
  abort: AbortController;
  // How many still want the answer.
  wanted: number;
  answered: boolean;
}

/**
 * Asks at most *most* questions at once, in the order in which they came. Equal questions are asked once, as an answer
 * serves for a moment longer; and a question that nobody waits for any more is taken back.
 */
export class Asker {
  private readonly open = new Map<string, Question>();
  private readonly waiting: Array<() => void> = [];
  private running = 0;

  constructor(private readonly most: number) {}

  ask(key: string, send: (signal: AbortSignal) => Promise<unknown>, signal?: AbortSignal): Promise<unknown> {
    if (signal?.aborted) {
      return Promise.reject(new DOMException('Nobody waits for the answer.', 'AbortError'));
    }
    let question = this.open.get(key);
    if (!question) {
      question = this.begin(key, send);
      this.open.set(key, question);
    }
    const asked = question;
    asked.wanted += 1;
    return new Promise((resolve, reject) => {
      const leave = () => {
        asked.wanted -= 1;
        if (asked.wanted === 0 && !asked.answered) {
          this.forget(key, asked);
          asked.abort.abort();
        }
        reject(new DOMException('Nobody waits for the answer.', 'AbortError'));
      };
      signal?.addEventListener('abort', leave, { once: true });
      asked.answer.then(resolve, reject).finally(() => signal?.removeEventListener('abort', leave));
    });
  }

  private begin(key: string, send: (signal: AbortSignal) => Promise<unknown>): Question {
    const abort = new AbortController();
    const run = async () => {
      await this.turn();
      try {
        abort.signal.throwIfAborted();
        const answer = await send(abort.signal);
        question.answered = true;
        setTimeout(() => this.forget(key, question), KEPT_MS);
        return answer;
      } catch (error) {
        this.forget(key, question);
        throw error;
      } finally {
        this.pass();
      }
    };
    const question: Question = { answer: run(), abort, wanted: 0, answered: false };
    return question;
  }

  private forget(key: string, question: Question): void {
    if (this.open.get(key) === question) {
      this.open.delete(key);
    }
  }

  private async turn(): Promise<void> {
    if (this.running < this.most) {
      this.running += 1;
    } else {
      await new Promise<void>((go) => this.waiting.push(go));
    }
  }

  private pass(): void {
    const next = this.waiting.shift();
    if (next) {
      next();
    } else {
      this.running -= 1;
    }
  }
}
